"""Heap: gives back memory that was deleted, but that the GNU C library keeps for small objects."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfmon_widgets.core.data_limit import DataLimit

# The plug consists of blocks of these sizes, in bytes. The C library writes to the first page of each block,
# which then takes memory, so there should be few blocks.
_SIZES = tuple(2**exponent for exponent in range(25, 17, -1))


class Heap:
    """The heap of the C library, from which Python takes objects of more than 512 bytes.

    When a large list of strings is deleted, the heap keeps the memory, because an object that is still in use
    lies at a higher address. The memory can be given back, but the addresses remain: they count as data of
    this process, and new objects can fill them without a request to the OS kernel, so no limit on the data
    would stop these objects. Therefore the addresses are plugged: taken by blocks that nobody uses. New
    objects then need more data, which the limit can refuse.

    The library has several such heaps, called arenas. When an allocation has failed, the library moves the
    thread to another arena. From then on it uses the former one only if the other has no room.
    """

    def __init__(self, limit: DataLimit) -> None:
        self._limit = limit
        # CDLL releases the GIL: to give back gigabytes takes long, and other threads go on meanwhile.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        library = ctypes.PyDLL(None)  # keeps the GIL: see plug()
        self._malloc, self._free = library.malloc, library.free
        self._malloc.restype = ctypes.c_void_p
        self._malloc.argtypes, self._free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
        self._plug: list[int] = []

    def give_back(self) -> None:
        """Give back what is free. This may take long; plug() comes next."""
        self.unplug()
        if self._trim is not None:
            self._trim(0)

    def plug(self) -> None:
        """Take the addresses that are free in the heaps; lifts the limit on the data afterwards.

        Meanwhile the limit on the data is so low that the heaps can hardly grow, so that no other addresses
        are taken. Other threads can allocate about as much as one block. Plugging a gigabyte takes some
        milliseconds, during which threads that need the GIL hardly run.
        """
        if self._trim is None:
            return
        try:
            for size in _SIZES:
                before = self._limit.data()
                self._limit.set(before + 0.9 * size)
                # Where the OS kernel does not enforce the limit, the data grows.
                while self._limit.data() < before + 2 * size and (block := self._malloc(size)):
                    self._plug.append(block)
        except MemoryError:
            pass  # what is plugged by now is plugged
        finally:
            self._limit.lift()

    def unplug(self) -> None:
        """Let new objects use those addresses again."""
        while self._plug:
            self._free(self._plug.pop())
