"""Files that the OS kernel writes anew each time they are read: kept open between readings, or not."""

from __future__ import annotations

import os
from pathlib import Path


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
