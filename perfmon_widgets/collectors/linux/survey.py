"""Survey: which pages of a process are its own and which it shares, estimated from a sample of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from perfmon_widgets.collectors.linux.member import PAGE
from perfmon_widgets.collectors.linux.system_file import read_once

# How many pages are sampled of all anonymous memory, and of each mapping of a file. So a survey takes 2 to 10
# ms, however much memory there is, where smaps_rollup takes 11 ms per GiB.
_POINTS = 512
_POINTS_OF_FILE = 256
# Programs reserve address space that they hardly fill. If fewer than _ENOUGH of the pages sampled are in
# memory, more are sampled, but not of the mappings of which _EMPTY were sampled and none is.
_MORE_POINTS = (_POINTS, 8 * _POINTS, 16 * _POINTS)
_ENOUGH, _EMPTY = 128, 64
# Smaller mappings of files, such as those of most libraries, are not sampled.
_SMALL = 2**20
_SCATTER = 2654435761  # of Knuth's multiplicative hashing
# Bits of an entry in /proc/<pid>/pagemap (Documentation/admin-guide/mm/pagemap.rst).
_PRESENT, _OF_FILE, _EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56

Spots = frozenset[int]
"""Offsets in a file, one in each step, whose pages are in memory: each stands for the bytes of a step."""


class File(NamedTuple):
    """A file or shared memory, however it is mapped."""

    device: bytes
    inode: bytes
    step: int
    """Bytes between the sampled pages, about 1/256 of the mapping."""


class Survey(NamedTuple):
    """Estimates of a process's memory, within a few percent of it."""

    private: float
    """Bytes of anonymous pages that only this process has."""
    files: Mapping[File, Spots]
    """Which parts of large files and of shared memory it has in memory."""


def survey(folder: Path) -> Survey:
    """Sample the pages of the process with this folder in /proc; raises OSError if that is not permitted."""
    anonymous: list[tuple[int, int]] = []
    files: dict[File, set[int]] = {}
    pagemap = os.open(folder / "pagemap", os.O_RDONLY)
    try:
        for line in read_once(folder / "maps").splitlines():
            addresses, permissions, offset, device, inode = line.split(None, 5)[:5]
            start, end = (int(address, 16) for address in addresses.split(b"-"))
            if b"p" in permissions and b"w" in permissions:
                anonymous.append((start, end))
            if inode == b"0" or end - start < _SMALL:
                continue
            step = _step((end - start) // _POINTS_OF_FILE)
            spots = files.setdefault(File(device, inode, step), set())
            first = int(offset, 16)
            for spot in _spots(first, first + end - start, step):
                if _entry(pagemap, start + spot - first) & (_PRESENT | _OF_FILE) == _PRESENT | _OF_FILE:
                    spots.add(spot)
        private = _private(pagemap, anonymous)
    finally:
        os.close(pagemap)
    return Survey(private, {file: frozenset(spots) for file, spots in files.items()})


def _private(pagemap: int, ranges: Sequence[tuple[int, int]]) -> float:
    """Return the bytes of anonymous pages in these ranges of addresses that only this process has."""
    for points in _MORE_POINTS:
        step = max(sum(end - start for start, end in ranges) // points // PAGE, 1) * PAGE
        private = present = passed = 0
        filled = []
        # One in each step of these ranges, as if they followed on each other.
        for start, end in ranges:
            entries = [
                _entry(pagemap, start + spot - passed) & (_PRESENT | _OF_FILE | _EXCLUSIVE)
                for spot in _spots(passed, passed + end - start, step)
            ]
            passed += end - start
            own, common = entries.count(_PRESENT | _EXCLUSIVE), entries.count(_PRESENT)
            private += own
            present += own + common
            if own or common or len(entries) < _EMPTY:
                filled.append((start, end))
        if present >= _ENOUGH or step == PAGE:
            break
        ranges = filled
    return float(private * step)


def _spots(start: int, end: int, step: int) -> Iterator[int]:
    """Yield an offset of a page in each step between start and end, the same ones for the same step.

    Their places within the steps look random, since a program may use every second page.
    """
    pages = step // PAGE
    for number in range(start // step, -(-end // step)):
        spot = number * step + number * _SCATTER % pages * PAGE
        if start <= spot < end:
            yield spot


def _step(size: int) -> int:
    """Return the power of two, at least a page, at or above a size."""
    return max(1 << max(size - 1, 0).bit_length(), PAGE)


def _entry(pagemap: int, address: int) -> int:
    return int.from_bytes(os.pread(pagemap, 8, address // PAGE * 8), "little")
