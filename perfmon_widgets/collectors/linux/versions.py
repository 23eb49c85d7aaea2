"""Versions: which processes of a tree have a page of memory in common, followed from survey to survey."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from perfmon_widgets.collectors.linux.survey import Survey, is_sampled

# Each survey takes a number, so that the new versions that it finds differ from all others.
_written = itertools.count()

Version = tuple[int, int]
"""What is in a page of one or more processes: the page's number, and one for when it was written."""


class Versions:
    """Which version of each page in a sample one process has.

    A survey says whether a page is shared, not with whom. But pages are shared only by fork, and only until
    one of the processes writes to them. So a fork begins with the versions of its parent; a page that only
    this process has is a new version; and one that others have, too, is the version that it was before.
    """

    def __init__(self) -> None:
        self.pages: Mapping[int, Version] = {}
        """Of each page, by its number, the version that it had when it was surveyed."""
        self.all: frozenset[Version] = frozenset()
        """All of them."""
        self.common: frozenset[Version] = frozenset()
        """Those that other processes have, too."""
        self.level = 0
        """The level of the sample (see survey.py)."""
        self._unknown = next(_written)  # stands for what was in its pages before they were surveyed
        self._at_level: tuple[tuple[int, int], frozenset[Version]] = (-1, 0), frozenset()

    def begin(self, parent: Versions) -> None:
        """Begin as a fork, with all versions of another process."""
        self.pages, self.all, self.common = parent.pages, parent.all, parent.all
        self.level = parent.level

    def inherit(self, parent: Versions) -> None:
        """Begin with what the parent has in common with others, if nothing was known of it at the fork."""
        if not self.all and parent.common:
            common = parent.common
            self.pages = {page: version for page, version in parent.pages.items() if version in common}
            self.all, self.common, self.level = common, common, parent.level

    def common_at(self, level: int) -> frozenset[Version]:
        """Return those that other processes have, too, of the pages that a sample of this level takes."""
        if level <= self.level:
            return self.common
        if self._at_level[0] != (level, id(self.common)):
            found = frozenset(version for version in self.common if is_sampled(version[0], level))
            self._at_level = (level, id(self.common)), found
        return self._at_level[1]

    def follow(self, found: Survey, parent: Versions | None, *, has_forks: bool) -> None:
        """Follow what a survey has found; ``parent`` is that of a fork, which was surveyed before."""
        now = next(_written)
        pages = {
            page: (page, now) if only_here else self._shared(page, parent, has_forks)
            for page, only_here in found.pages.items()
        }
        self.common = frozenset(version for page, version in pages.items() if not found.pages[page])
        self.pages, self.all, self.level = pages, frozenset(pages.values()), found.level

    def _shared(self, page: int, parent: Versions | None, has_forks: bool) -> Version:
        """Return the version of a page that other processes have, too."""
        if version := self.pages.get(page):
            return version
        # It was not in memory in the last survey, or when it was forked.
        if parent is None:
            return page, self._unknown
        version = parent.pages.get(page)
        if version in parent.common:
            return version
        # Either its parent had it, too, and has copied it, or it has allocated it and then forked others.
        return page, self._unknown if version is None and has_forks else parent._unknown
