"""The files of a log: their names, how a new one is created, and what an error with one means."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

APPEND = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
"""The flags that a file of a log is opened with."""

PRIVATE = 0o600
"""The permissions of a new log: rows and spans may hold secrets, such as the first lines of cells."""

TRANSIENT = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"),  # a shortage
        *("EIO", "ESTALE", "EREMOTEIO", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ETIMEDOUT"),
        *("EAGAIN", "EBUSY", "EINTR", "ENOLCK", "EDEADLK"),
    )
    if hasattr(errno, name)
)
"""The errors that may pass by themselves, or once somebody frees some space: writing is tried again."""

# In bytes, on nearly every file system.
_LONGEST_NAME = 255
_PART = re.compile(r"(.+)\.part\d+")

_WORDS = {
    errno.ENOENT: "the directory {folder} does not exist; create it, or name another",
    errno.ENOTDIR: "{folder} is not a directory; name another",
    errno.EACCES: "no permission to write in {folder}; name a directory that you may write in",
    errno.EPERM: "no permission to write in {folder}; name a directory that you may write in",
    errno.EROFS: "{folder} is read-only; name a directory that you may write in",
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your disk quota is used up; free some space",
    errno.EEXIST: "something else has this name; move it and start another log",
    errno.EISDIR: "it is a directory; name a file in it",
    errno.EFBIG: "the file is as large as it may be here; start another log",
    errno.EBADF: "the program has closed the file; start another log",
}


def spans_path(path: Path) -> Path:
    """Return where the cells, spans and marks of a log are written: ``run.spans.csv`` for ``run.csv``."""
    return path.with_name(f"{path.stem}.spans{path.suffix}")


def part_path(path: Path, number: int) -> Path:
    """Return where the rows of a log go on after new columns: ``run.part2.csv`` for ``run.csv``.

    A name that would be longer than a file system allows is cut.
    """
    ending = f".part{number}{path.suffix}"
    stem = os.fsdecode(os.fsencode(path.stem)[: _LONGEST_NAME - len(os.fsencode(ending))])
    return path.with_name(f"{stem}{ending}")


def parts(path: Path) -> Iterator[Path]:
    """Yield the parts of a log that exist, from the second on, in the order in which they were begun."""
    for number in count(2):
        part = part_path(path, number)
        if not os.path.lexists(part):
            return
        yield part


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return the full path; raises OSError for one that no file can have."""
    try:
        if "\0" in os.fspath(path):
            raise ValueError("a file name cannot contain a NUL character")
        return Path.cwd() / Path(path).expanduser()
    except (ValueError, RuntimeError) as error:  # RuntimeError: ~name of a user who does not exist
        raise OSError(errno.EINVAL, f"cannot log to {os.fspath(path)!r}: {error}") from None
    except FileNotFoundError as error:
        reason = "the working directory does not exist any more; change to another"
        raise FileNotFoundError(error.errno, f"cannot log to {os.fspath(path)!r}: {reason}") from None


def create(asked: Path) -> tuple[Path, int]:
    """Create the file, or the first of ``run-2.csv``, ``run-3.csv``, … that is free.

    Returns its path and a descriptor. A name is free if there is neither this file nor one that would belong
    to it (spans, a second part), and if the file would not be taken for a part of another log.
    """
    if asked.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    for number in count(1):
        path = asked if number == 1 else asked.with_name(f"{asked.stem}-{number}{asked.suffix}")
        if _is_taken(path):
            continue
        try:
            return path, os.open(path, APPEND | os.O_CREAT | os.O_EXCL, PRIVATE)
        except FileExistsError:
            continue
    raise AssertionError("count() has no end")


def append_whole(descriptor: int, content: bytes) -> None:
    """Append whole lines in one write: all of them, or none and an OSError."""
    size = os.fstat(descriptor).st_size
    if os.write(descriptor, content) < len(content):
        # The disk had room for a part of it: take that back, so that the file ends with a whole line.
        os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _is_taken(path: Path) -> bool:
    if os.path.lexists(spans_path(path)) or os.path.lexists(part_path(path, 2)):
        return True
    part = _PART.fullmatch(path.stem)
    return part is not None and os.path.lexists(path.with_name(f"{part[1]}{path.suffix}"))


def sentence(error: OSError, path: Path | None) -> str:
    """Return in a sentence what went wrong with a file, and what to do about it."""
    words = _WORDS.get(error.errno or 0)
    folder = path.parent if path else Path()
    if error.errno == errno.ENOENT and folder.is_dir():
        words = None
    return f"cannot log to {path}: {words.format(folder=folder) if words else error.strerror or error}"
