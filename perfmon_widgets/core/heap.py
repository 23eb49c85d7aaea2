"""Heap: gives back memory that was deleted, but that the GNU C library keeps for small objects."""

from __future__ import annotations

import ctypes

# A block of the plug. Smaller than what malloc() takes from the OS kernel instead of its heap (128 KiB), and
# large, because the first page of each block is touched.
_BLOCK = 120 * 1024


class Heap:
    """The heap of the C library, from which Python takes objects of more than 512 bytes.

    When a large list of strings is deleted, its memory stays in the heap, because something that is alive
    lies behind it. Giving it back leaves address space that counts as data of this process but can be filled
    without asking the OS kernel, so that no limit on the data would stop that. So it is plugged: allocated,
    and never touched. New objects then lie behind it.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        self._malloc, self._free, self._end = library.malloc, library.free, library.sbrk
        self._malloc.restype = self._end.restype = ctypes.c_void_p
        self._malloc.argtypes, self._free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
        self._end.argtypes = [ctypes.c_ssize_t]
        self._plug: list[int] = []

    def give_back(self) -> None:
        """Give back what is free, and plug the address space that is left."""
        if self._trim is None:
            return
        self._trim(0)
        end = self._end(0)
        while True:
            block = self._malloc(_BLOCK)
            if not block:
                return
            if block + _BLOCK >= end or self._end(0) != end or len(self._plug) >= _MOST:
                self._free(block)
                return
            self._plug.append(block)

    def unplug(self) -> None:
        """Let new objects use that address space again."""
        while self._plug:
            self._free(self._plug.pop())


# As many blocks plug 128 GiB.
_MOST = 128 * 2**30 // _BLOCK
