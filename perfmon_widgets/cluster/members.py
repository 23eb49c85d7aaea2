"""Members: the newest row of each of many processes, as columns such as ``worker3/cpu_percent``.

What belongs to the process gets the place of the member (``worker3``); what is about the whole machine gets
that of its host, once for all members there. The age of a row counts from its arrival: the clocks of the
members' machines are not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count

from perfmon_widgets.clocks import time
from perfmon_widgets.cluster.member_metrics import member_metric
from perfmon_widgets.cluster.rows import Row, is_measured
from perfmon_widgets.collectors.plausible import checked
from perfmon_widgets.metrics import Metric, place_label, unit_of

# For how many of its intervals a row counts as the present; then its numbers are missing.
_FRESH = 2.0
# Seconds of silence after which the number of a member that has not said goodbye may go to another.
_FORGOTTEN = 60.0
# A member whose name is a number below _OWN_NUMBERS keeps that number if it is free, and if it either has
# columns already or fewer than _MAX_UNUSED numbers with columns are unused. Any other gets the lowest free
# number: an adaptive cluster never uses a name again, and every number once used keeps its columns.
_OWN_NUMBERS, _MAX_UNUSED = 256, 8
# The most columns of a member: other programs may write to the same topic or folder.
_MAX_COLUMNS = 200
# The most members that are listed as failed.
_MAX_FAILED = 100


def _order(place: str) -> tuple[bool, int]:
    """Where a place comes among the others: hosts last, each kind by its numbers."""
    return place.startswith("host"), int(place.lstrip("abcdefghijklmnopqrstuvwxyz"))


class _Member:
    """What is known of one member; changed by the thread that hands over its rows only."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.host = -1
        self.arrived = -math.inf  # monotonic time
        self.left = ""  # the reason, if it has said goodbye
        self.lasts = 0.0  # seconds for which its row counts
        self.values: dict[str, float] = {}
        self.missing: dict[str, str] = {}  # the reasons, by column
        self.of_host: dict[str, float] = {}
        self.missing_of_host: dict[str, str] = {}


class Members:
    """A collector of the newest row of each member. Its metrics grow by those of each new member.

    One thread hands over rows, another may read.

    Args:
        kind: what a member is called, and how its place in a column's name begins: ``worker``.
        source: where the rows come from.
        silence: why a member may be silent, in a few words.
        clock: monotonic time in seconds.
    """

    grows = True

    def __init__(
        self, kind: str, source: str, silence: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.errors: dict[str, str] = {}
        """Why numbers are missing now, by column; and what is wrong with a member that has no columns."""
        self.silence = silence
        self._kind, self._source, self._clock = kind, source, clock
        self._members: dict[str, _Member] = {}
        self._hosts: dict[str, int] = {}
        self._failed: dict[str, str] = {}
        self._declared: dict[str, dict[str, Metric]] = {}  # by place and what stands behind it
        self._version = 0  # of what is declared
        self._metrics: tuple[int, Sequence[Metric]] = (0, ())  # of a version

    @property
    def metrics(self) -> Sequence[Metric]:
        """The columns of all members and hosts that there have been, by their numbers."""
        now = self._version
        version, metrics = self._metrics
        if version != now:
            places = sorted(self._declared.items(), key=lambda item: _order(item[0]))
            metrics = tuple(metric for _, declared in places for metric in tuple(declared.values()))
            self._metrics = (now, metrics)
        return metrics

    @property
    def count(self) -> int:
        """How many members there are, with those that have no row that can be used."""
        return len(self._members) + len(self._failed)

    # -- the thread that hands over rows ---------------------------------------------------------------

    def put(self, row: Row, age: float = 0.0, number: int | None = None) -> None:
        """Take a row that arrived ``age`` seconds ago; one that cannot be used is listed in ``errors``.

        ``number``: the member's, if it has one that cannot be another's, such as a rank.
        """
        try:
            self._put(row, self._clock() - age, number)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            self.fail(row.name, f"its row cannot be used: {error}")
        else:
            self._failed.pop(row.name, None)

    def expect(self, key: str, name: str) -> None:
        """Give a member that has no row yet its number; while it has none, that is listed in ``errors``."""
        if key not in self._members:
            now = self._clock()
            member = _Member(self._number_of(name, now), name)
            member.arrived = now
            self._add(key, member)

    def fail(self, name: str, reason: str) -> None:
        """List a member in the errors, until it has a row."""
        if name in self._failed or len(self._failed) < _MAX_FAILED:
            self._failed[name] = reason

    def leave(self, key: str, reason: str, age: float = 0.0) -> None:
        """Report the numbers of this member as missing, for this reason, until it has a row again.

        It left ``age`` seconds ago; if it has had a row since then, nothing changes.
        """
        member = self._members.get(key)
        if member is not None and member.arrived <= self._clock() - age:
            member.left = reason
            self._failed.pop(member.name, None)

    def _put(self, row: Row, arrived: float, number: int | None) -> None:
        if len(row.own) + len(row.machine) > _MAX_COLUMNS:
            raise ValueError(f"it has more than {_MAX_COLUMNS} columns")
        if not 0 < row.interval < math.inf:
            raise ValueError(f"its interval is {row.interval!r}, not a number of seconds greater than 0")
        member = self._members.get(row.key)
        if member is None:
            member = _Member(self._number_of(row.name, arrived) if number is None else number, row.name)
        elif member.arrived > arrived:
            return
        host = self._number_of_host(row.host, arrived)
        place, of_host = f"{self._kind}{member.number}", f"host{host}"
        devices = {f"{place}/{where}": name for where, name in row.devices.items()}
        declared = self._with_new(place, row.own, {place: row.name, **devices})
        of_machine = self._with_new(of_host, row.machine, {of_host: row.host})
        values, missing = self._checked(declared, row.own, row.reasons)
        values_of_host, missing_of_host = self._checked(of_machine, row.machine, row.reasons)
        lasts = _FRESH * row.interval
        # From here on nothing is raised, so that a row is taken as a whole or not at all.
        self._declare(place, declared)
        self._declare(of_host, of_machine)
        member.host = host
        if row.host not in self._hosts:
            others = {name: number for name, number in self._hosts.items() if number != host}
            self._hosts = {**others, row.host: host}
        member.values, member.missing = values, missing
        member.of_host, member.missing_of_host = values_of_host, missing_of_host
        member.lasts = lasts
        member.left, member.arrived, member.name = "", arrived, row.name
        if row.key not in self._members:
            self._add(row.key, member)

    def _add(self, key: str, member: _Member) -> None:
        """Add a member in place of the one that has had its number."""
        others = {other: each for other, each in self._members.items() if each.number != member.number}
        self._members = {**others, key: member}

    def _number_of(self, name: str, now: float) -> int:
        """Return the number of a new member: its name, if that may be a number, else the lowest free one."""
        taken = {member.number for member in self._present(now)}
        own = int(name) if name.isdecimal() else _OWN_NUMBERS
        places = {place for place in self._declared if place.startswith(self._kind)}
        is_known = f"{self._kind}{own}" in places
        if own < _OWN_NUMBERS and own not in taken and (is_known or len(places) - len(taken) < _MAX_UNUSED):
            return own
        return next(number for number in count() if number not in taken)

    def _number_of_host(self, name: str, now: float) -> int:
        """Return the number of a host; that of one without members goes to a new one, such as another pod."""
        if name in self._hosts:
            return self._hosts[name]
        taken = {member.host for member in self._present(now)}
        return next(number for number in count() if number not in taken)

    def _present(self, now: float) -> list[_Member]:
        """Return the members that have not left, and have not been silent for long."""
        return [
            member
            for member in self._members.values()
            if not member.left and now - member.arrived < max(member.lasts, _FORGOTTEN)
        ]

    def _with_new(
        self, place: str, values: Mapping[str, float], devices: Mapping[str, str]
    ) -> dict[str, Metric]:
        """Return the metrics of a place with one for each of these columns, and the present devices."""
        known = self._declared.get(place, {})
        declared = {
            column: replace(metric, device=devices.get(metric.where, ""))
            if metric.device != devices.get(metric.where, "")
            else metric
            for column, metric in known.items()
        }
        for column in values:
            if column not in declared:
                declared[column] = member_metric(place, column, values, devices, self._source)
        return declared

    def _declare(self, place: str, declared: dict[str, Metric]) -> None:
        if declared != self._declared.get(place):
            self._declared[place] = declared
            self._version += 1

    def _checked(
        self, declared: Mapping[str, Metric], values: Mapping[str, float], reasons: Mapping[str, str]
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Return by full name the values that can be true, and why the others of the place are missing."""
        found: dict[str, float] = {}
        missing: dict[str, str] = {}
        for column, metric in declared.items():
            name = metric.name
            value, reason = float(values.get(column, math.nan)), ""
            if is_measured(column):
                value, reason = checked(unit_of(column), value)
            if math.isnan(value):
                place = name.removesuffix(f"/{column}")
                otherwise = f"the monitor on {place_label(place)} has no number for it"
                missing[name] = reason or reasons.get(column, otherwise)
            else:
                found[name] = value
        return found, missing

    # -- the thread that samples -----------------------------------------------------------------------

    def collect(self) -> Mapping[str, float]:
        """Return the values of the newest row of each member, unless it is older than two of its intervals.

        The columns of a host come from the row of its first member that has one.
        """
        now = self._clock()
        values: dict[str, float] = {}
        reasons = {f"{self._kind} {name}": reason for name, reason in tuple(self._failed.items())}
        told: dict[int, dict[str, str]] = {}  # by the number of a host: why its columns are missing
        for member in sorted(self._members.values(), key=lambda member: member.number):
            reason = self._why_missing(member, now)
            if reason:
                columns = self._each(f"{self._kind}{member.number}", reason)
                if not columns and not member.left:
                    reasons.setdefault(f"{self._kind} {member.name}", reason)
                reasons.update(columns)
                continue
            values.update(member.values)
            reasons.update(member.missing)
            if member.host not in told:
                values.update(member.of_host)
                told[member.host] = member.missing_of_host
        for name, host in tuple(self._hosts.items()):
            silent = self._each(f"host{host}", f"no row from any {self._kind} on {name}")
            reasons.update(told.get(host, silent))
        self.errors = reasons
        return values

    def _each(self, place: str, reason: str) -> dict[str, str]:
        return {metric.name: reason for metric in tuple(self._declared.get(place, {}).values())}

    def _why_missing(self, member: _Member, now: float) -> str:
        """Return why there are no numbers of this member; empty if there are."""
        label = f"{self._kind} {member.number}"
        known_as = "" if member.name == str(member.number) else f" ({member.name})"
        if member.left:
            return f"{label}{known_as} {member.left}"
        if not member.lasts:
            return f"no row from {label}{known_as} yet: {self.silence}"
        silent = now - member.arrived
        if silent > member.lasts:
            return f"no row from {label}{known_as} for {silent:.0f} s: {self.silence}"
        return ""
