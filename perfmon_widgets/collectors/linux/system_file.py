"""Files that the OS kernel writes anew each time they are read: kept open between readings, or not."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

# How many bytes a short file has not.
_LONG = 4096


def _pread_that_keeps_the_gil() -> Any:
    """pread(2), called as the C library has it; None where that cannot be done."""
    if hasattr(os, "pread") and sys.maxsize > 2**32:  # else an offset is no long
        with contextlib.suppress(OSError, AttributeError):  # an interpreter that is linked statically
            return ctypes.PyDLL(None).pread
    return None


_pread = _pread_that_keeps_the_gil()
_SIZE, _START = ctypes.c_size_t(_LONG), ctypes.c_long(0)


class SystemFile:
    """A file below /proc, /sys or a control group; opening it once makes a reading twice as cheap.

    Raises OSError if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 4096
        self._descriptor = -1  # for __del__, should the next line raise
        self._descriptor = os.open(path, os.O_RDONLY)

    def read(self) -> bytes:
        """The whole content as it is now; raises OSError if the file has gone."""
        while True:
            content = os.pread(self._descriptor, self._size, 0)
            if len(content) < self._size:
                return content
            self._size *= 2

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class ShortFile(SystemFile):
    """One that the OS kernel writes in microseconds, from what it knows: read without letting go of the GIL.

    Each time that it is let go of, a thread that computes is woken up, most often in vain, and that slows it
    down more than the reading does. It is let go of where the content is long, and where the file does not
    belong to the file system at ``mount``: what a program tells that is mounted over it (lxcfs) may take
    long, and a control group has many CPUs to ask. To be read by one thread at a time.
    """

    def __init__(self, path: Path, mount: Path) -> None:
        super().__init__(path)
        self._content: Any = None
        if _pread is not None and os.fstat(self._descriptor).st_dev == mount.stat().st_dev:
            self._content = ctypes.create_string_buffer(_LONG)

    def read(self) -> bytes:
        """The whole content as it is now; raises OSError if the file has gone."""
        if self._content is not None:
            length = _pread(self._descriptor, self._content, _SIZE, _START)
            if 0 <= length < _LONG:
                content: bytes = self._content[:length]
                return content
            if length == _LONG:
                self._content = None
        return super().read()  # which says what went wrong, or reads on


def read_once(path: str | Path) -> bytes:
    """The whole content of a file that is read seldom, or is one of many; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = b""
        while part := os.read(descriptor, 16384):  # a long list comes in parts, whatever is asked for
            content += part
        return content
    finally:
        os.close(descriptor)


def read_if_there(path: Path) -> bytes:
    """The whole content of a file; nothing if it cannot be read."""
    try:
        return read_once(path)
    except (OSError, ValueError):  # the latter for a name that no file can have
        return b""


def text_if_there(path: Path) -> str:
    """The same as text, less the end of its last line."""
    return decoded(read_if_there(path))


def decoded(content: bytes) -> str:
    """A content as text, less the end of its last line.

    The name of a mount point may be of any bytes: it is decoded as Python decodes the names of files.
    """
    return os.fsdecode(content).removesuffix("\n")
