"""LogParts: the files of one log, of which the last one is open."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from perfmon_widgets.core.csv_lines import header_line
from perfmon_widgets.core.log_files import APPEND, append_whole, create, part_path


class LogParts:
    """The files of one log: ``run.csv`` and, after series were added, ``run.part2.csv`` with their columns.

    The last one is open. Every method raises OSError if the file system does.
    """

    def __init__(self, asked: Path, columns: Sequence[str]) -> None:
        """Create the first file; if the name is taken, under one that is free."""
        self.columns = tuple(columns)
        """The columns of the file that is open."""
        self.first, self._descriptor = create(asked)
        self.last = self.first
        """The file that is open."""
        self._number = 1

    def write(self, lines: bytes) -> None:
        """Append whole lines to the last file: all of them, or none and an OSError."""
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file was deleted; start another log")
        if status.st_size == 0:  # a new file, or one that somebody has emptied, as ``> run.csv`` does
            lines = header_line(self.columns) + lines
        append_whole(self._descriptor, lines)

    def begin(self, columns: Sequence[str]) -> None:
        """Go on in another file, which has these columns; an OSError leaves the last one open."""
        descriptor, path = self._create_next(columns)
        before = self._descriptor
        # In one statement: an interrupt leaves all of them as they were.
        self._descriptor, self.last, self.columns = descriptor, path, tuple(columns)
        os.close(before)

    def _create_next(self, columns: Sequence[str]) -> tuple[int, Path]:
        """Create the next file, with its header and with the permissions of the last one."""
        status = os.fstat(self._descriptor)
        if not os.path.samestat(status, self.last.stat()):
            raise FileNotFoundError(errno.ENOENT, f"{self.last} was moved; stop the log and start another")
        permissions = stat.S_IMODE(status.st_mode)
        number = self._number
        while True:
            number += 1
            path = part_path(self.first, number)
            # An interrupt may have left a file without a header: then the next number is taken.
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(path, APPEND | os.O_CREAT | os.O_EXCL, permissions)
                break
        try:
            append_whole(descriptor, header_line(columns))
            if stat.S_IMODE(os.fstat(descriptor).st_mode) != permissions:
                path.chmod(permissions)
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._number = number
        return descriptor, path

    def close(self) -> None:
        """Close the file that is open; what the files hold stays."""
        # In this order: after an interrupt between the two, the number may belong to a file of somebody else.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
