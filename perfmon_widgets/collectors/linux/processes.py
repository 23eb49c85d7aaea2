"""Processes in /proc: which number this process has there, and which children a process has."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from perfmon_widgets.collectors.linux.system_file import read_once, text_if_there

PROC = Path("/proc")

Members: TypeAlias = "Callable[[], Collection[int]]"
"""Lists the known descendants of a process, by their number in /proc, also those whose parent has ended."""


def own_number(proc: Path = PROC) -> int:
    """Return the number of this process in /proc.

    It is not the process id where /proc was mounted outside this process's PID namespace.
    """
    try:
        return int(os.readlink(proc / "self"))  # noqa: PTH115 - the text is enough
    except (OSError, ValueError):
        return os.getpid()


def number_of(process: int, proc: Path = PROC) -> int:
    """Return the number in /proc of a process id: of this process, or of one of its children.

    The two differ where /proc was mounted outside this process's PID namespace. Raises ProcessLookupError if
    they differ and the process is not a child.
    """
    own = own_number(proc)
    if own == os.getpid():
        return process
    for number in (own, *children(own, proc)):
        status = text_if_there(proc / str(number) / "status")
        inside = status.partition("\nNSpid:")[2].partition("\n")[0].split()
        if inside and int(inside[-1]) == process:
            return number
    raise ProcessLookupError(
        f"process {process} is not a child of this one, and {proc} shows another PID namespace:"
        " watch a child, or mount /proc inside the namespace"
    )


def environment_of(number: int, proc: Path = PROC) -> dict[str, str]:
    """Return the environment that a process was started with; raises OSError if it may not be read."""
    fields = (proc / str(number) / "environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(field).partition("=")[::2] for field in fields)


def with_descendants(numbers: Iterable[int], proc: Path = PROC) -> set[int]:
    """Return the numbers of these processes and of all their descendants."""
    found = set(numbers)
    unread = [*found]
    while unread:
        new = set(children(unread.pop(), proc)) - found
        found |= new
        unread += new
    return found


def children(number: int, proc: Path = PROC) -> Iterator[int]:
    """Yield the numbers of a process's children, whichever of its threads started them.

    Yields nothing if the process has ended, or if the OS kernel does not list children
    (CONFIG_PROC_CHILDREN).
    """
    folder = f"{proc}/{number}/task"
    try:
        threads = os.listdir(folder)  # noqa: PTH208 - names are enough
    except OSError:
        return
    for thread in threads:
        try:
            text = read_once(f"{folder}/{thread}/children")
        except OSError:
            continue  # the thread has ended
        yield from map(int, text.split())
