"""Survey: which pages of a process are its own and which it shares, estimated from a sample of them."""

from __future__ import annotations

import math
import os
import random
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from perfmon_widgets.collectors.linux.member import PAGE
from perfmon_widgets.collectors.linux.system_file import read_once

# About how many pages are sampled of all anonymous memory, and of each mapping of a file. So a survey takes 2
# to 10 ms, however much memory there is, where smaps_rollup takes 11 ms per GiB.
_POINTS = 512
_POINTS_OF_FILE = 256
# Programs reserve address space that they hardly fill. If fewer than _ENOUGH of the pages sampled are in
# memory, more are sampled, but not of the mappings of which _EMPTY were sampled and none is.
_MORE_POINTS = (_POINTS, 8 * _POINTS, 16 * _POINTS)
_ENOUGH, _EMPTY = 128, 64
# A mapping of a file with fewer pages than this for each that is sampled is read at once, which is quicker.
_QUICKER = 64
# Smaller mappings of files, such as those of most libraries, are not sampled.
_SMALL = 2**20 // PAGE if PAGE else 0
# Of Knuth's multiplicative hashing, which scatters the sampled pages _BITS bits of their numbers at a time.
_SCATTER, _BITS = 2654435761, 8
# Bits of an entry in /proc/<pid>/pagemap (Documentation/admin-guide/mm/pagemap.rst).
_PRESENT, _OF_FILE, _EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56

Spots = frozenset[int]
"""Pages in a file, one in each step, that are in memory: each stands for the bytes of a step."""


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
    pages: Mapping[int, bool]
    """The sampled anonymous pages that are in memory, by their numbers: whether only this process has it."""
    level: int
    """One page in 2**level was sampled. The pages of a higher level are a subset of those of a lower one."""
    files: Mapping[File, Spots]
    """Which parts of large files and of shared memory it has in memory."""


def survey(folder: Path, level: int = 0) -> Survey:
    """Sample the pages of the process with this folder in /proc, of anonymous ones at most one of 2**level.

    Raises OSError if that is not permitted.
    """
    anonymous: list[tuple[int, int]] = []
    mapped: list[tuple[bytes, bytes, int, int, int]] = []
    pagemap = os.open(folder / "pagemap", os.O_RDONLY)
    try:
        for line in read_once(folder / "maps").splitlines():
            addresses, permissions, offset, device, inode = line.split(None, 5)[:5]
            start, end = (int(address, 16) // PAGE for address in addresses.split(b"-"))
            if b"p" in permissions and b"w" in permissions:
                anonymous.append((start, end))
            if inode != b"0" and end - start >= _SMALL:
                mapped.append((device, inode, start, int(offset, 16) // PAGE, end - start))
        files = _files(pagemap, mapped)
        pages, level, ranges = _pages(pagemap, anonymous, level)
        # And others, in each survey: of forks that do the same, one sample would miss what the others miss.
        others, _ = _sample(pagemap, ranges, level, random.getrandbits(32))
    finally:
        os.close(pagemap)
    private = (sum(pages.values()) + sum(others.values())) / 2
    return Survey(private * (PAGE << level), pages, level, files)


def is_sampled(page: int, level: int) -> bool:
    """Return whether a sample of this level takes a page."""
    return any(True for _ in _spots(page, page + 1, level))


def _files(pagemap: int, mapped: Sequence[tuple[bytes, bytes, int, int, int]]) -> dict[File, Spots]:
    """Return which parts of these files are in memory.

    ``mapped``: of each mapping the device, inode, first page, offset in the file and length, all in pages.
    """
    files: dict[File, set[int]] = {}
    for device, inode, start, offset, length in mapped:
        level = _level(length, _POINTS_OF_FILE)
        spots = files.setdefault(File(device, inode, PAGE << level), set())
        sampled = _spots(offset, offset + length, level)
        if 1 << level < _QUICKER:
            all_entries = array("Q", os.pread(pagemap, 8 * length, 8 * start))
            if len(all_entries) < length:
                raise ProcessLookupError("The process has ended.")
            entries = ((spot, all_entries[spot - offset]) for spot in sampled)
        else:
            entries = ((spot, _entry(pagemap, start + spot - offset)) for spot in sampled)
        spots.update(spot for spot, entry in entries if entry & (_PRESENT | _OF_FILE) == _PRESENT | _OF_FILE)
    return {file: frozenset(spots) for file, spots in files.items()}


def _pages(
    pagemap: int, ranges: Sequence[tuple[int, int]], least: int
) -> tuple[dict[int, bool], int, Sequence[tuple[int, int]]]:
    """Return which anonymous pages of a sample are in memory, and its level, at least this one.

    Of each page it says whether only this process has it. Also returns the ranges that were sampled.
    """
    for points in _MORE_POINTS:
        level = max(_level(sum(end - start for start, end in ranges), points), least)
        pages, filled = _sample(pagemap, ranges, level)
        if len(pages) >= _ENOUGH or level == least:
            break
        ranges = filled
    return pages, level, ranges


def _sample(
    pagemap: int, ranges: Sequence[tuple[int, int]], level: int, salt: int = 0
) -> tuple[dict[int, bool], list[tuple[int, int]]]:
    """Return which pages of one sample are in memory, and the ranges that are not certainly empty."""
    pages: dict[int, bool] = {}
    filled = []
    for start, end in ranges:
        before = len(pages)
        sampled = list(_spots(start, end, level, salt))
        for page in sampled:
            entry = _entry(pagemap, page)
            if entry & (_PRESENT | _OF_FILE) == _PRESENT:
                pages[page] = bool(entry & _EXCLUSIVE)
        if len(pages) > before or len(sampled) < _EMPTY:
            filled.append((start, end))
    return pages, filled


def _level(pages: int, points: int) -> int:
    """Return the level at which a sample of ``pages`` pages takes about ``points`` of them."""
    return max(round(math.log2(max(pages, 1) / points)), 0)


def _spots(start: int, end: int, level: int, salt: int = 0) -> Iterator[int]:
    """Yield the numbers of the pages between these that a sample of this level takes.

    That is one in each 2**level pages. Which one looks random, since a program may use every second page, but
    it is the same in all processes, for the same ``salt``. The pages of a higher level are among those of a
    lower one.
    """
    # How many bits of a page's number are scattered at each step, those of the highest first.
    steps = [min(level - low, _BITS) for low in range((level - 1) // _BITS * _BITS, -1, -_BITS)]
    for number in range(start >> level, (end - 1 >> level) + 1):
        spot = number
        for bits in steps:
            scattered = ((spot >> _BITS - bits) * _SCATTER ^ salt) >> 32 - _BITS
            spot = spot << bits | scattered & (1 << bits) - 1
        if start <= spot < end:
            yield spot


def _entry(pagemap: int, page: int) -> int:
    entry = os.pread(pagemap, 8, page * 8)
    if not entry:
        raise ProcessLookupError("The process has ended.")
    return int.from_bytes(entry, sys.byteorder)
