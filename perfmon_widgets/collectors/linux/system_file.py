"""Files below /proc, /sys and the control groups, whose content the OS kernel makes at each reading."""

from __future__ import annotations

import os
from pathlib import Path

# A part of a list that is shorter is the last one: another line would have fitted into its page.
_LAST_PART = 3072


class SystemFile:
    """A file that is read in every sample: keeping it open halves the cost of a reading.

    Raises OSError if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 4096
        self._descriptor = -1  # for __del__, should the next line raise
        self._descriptor = os.open(path, os.O_RDONLY)

    def read(self) -> bytes:
        """Return the whole content as it is now; raises OSError if the file has gone."""
        while True:
            content = os.pread(self._descriptor, self._size, 0)
            if len(content) < self._size:
                return content
            self._size *= 2

    def read_list(self) -> bytes:
        """Return the same of a list (/proc/net/dev), which the OS kernel hands out in parts."""
        content = os.pread(self._descriptor, self._size, 0)
        # Only the last part leaves that much room in the page in which the OS kernel makes each.
        if len(content) > _LAST_PART:
            while part := os.pread(self._descriptor, self._size, len(content)):
                content += part
        return content

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def read_once(path: str | Path) -> bytes:
    """Return the whole content of a file that is read rarely, or is one of many; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = b""
        while part := os.read(descriptor, 16384):  # the OS kernel hands out a long list in parts
            content += part
        return content
    finally:
        os.close(descriptor)


def read_short(path: str | Path) -> bytes:
    """Return the same of a file of one record, such as that of a process: at most 4096 bytes in one part."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def read_if_there(path: Path) -> bytes:
    """Return the whole content of a file; nothing if it cannot be read."""
    try:
        return read_once(path)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return b""


def text_if_there(path: Path) -> str:
    """Return the same as text, without the end of its last line."""
    return decoded(read_if_there(path))


def decoded(content: bytes) -> str:
    """Return a content as text, without the end of its last line.

    The name of a mount point may consist of any bytes, so it is decoded as Python decodes file names.
    """
    return os.fsdecode(content).removesuffix("\n")
