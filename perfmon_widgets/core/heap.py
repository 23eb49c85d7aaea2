"""Heap: gives back memory that was deleted, but that the GNU C library keeps for small objects."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfmon_widgets.core.data_limit import DataLimit

# The plug consists of blocks of these sizes, in bytes. The first page of each block is touched, so that there
# should be few.
_SIZES = tuple(2**exponent for exponent in range(25, 17, -1))


class Heap:
    """The heap of the C library, from which Python takes objects of more than 512 bytes.

    When a large list of strings is deleted, its memory stays in the heap, because something that is alive
    lies behind it. Giving it back leaves address space that counts as data of this process but can be filled
    without asking the OS kernel, so that no limit on the data would stop that. So it is plugged: allocated,
    and never touched. New objects then lie behind it.

    The library has several such heaps, called arenas. After an allocation has failed it gives the thread
    another one, and looks in the first one again only for what that other one has no room for.
    """

    def __init__(self, limit: DataLimit) -> None:
        self._limit = limit
        # CDLL releases Python's lock: to give back gigabytes takes long, and other threads go on meanwhile.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        library = ctypes.PyDLL(None)  # keeps Python's lock: see plug()
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
        """Take the address space that was given back; lifts the limit on the data afterwards.

        Meanwhile there is a limit that the heaps can hardly grow with, so that only what is free in them is
        taken. It leaves other threads about as much as a block. That takes some milliseconds for a gigabyte;
        threads that need Python's lock hardly run meanwhile.
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
        """Let new objects use that address space again."""
        while self._plug:
            self._free(self._plug.pop())
