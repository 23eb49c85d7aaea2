"""Network: what a network namespace receives from outside and sends there."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.linux.interfaces import outside
from perfmon_widgets.collectors.linux.limits import Allowed
from perfmon_widgets.collectors.linux.system_file import SystemFile
from perfmon_widgets.collectors.rate import Rate
from perfmon_widgets.metrics import Metric

METRICS = (
    Metric(
        name="network_received_bytes_per_second",
        unit="bytes_per_second",
        group="network",
        label="network received",
        help="Received over the network by all programs of this network namespace: of the machine, or of the"
        " container. Without the loopback.",
        source="/sys/class/net/<interface>/statistics, or /proc/self/net/dev",
    ),
    Metric(
        name="network_sent_bytes_per_second",
        unit="bytes_per_second",
        group="network",
        label="network sent",
        help="Sent over the network by all programs of this network namespace: of the machine, or of the"
        " container. Without the loopback.",
        source="/sys/class/net/<interface>/statistics, or /proc/self/net/dev",
    ),
)
_NAMES = tuple(metric.name for metric in METRICS)
# The interfaces that count are chosen again after this many seconds, and when one of them has gone.
_EVERY = 10.0
# In /proc/net/dev, the lines above the first interface, and the positions of the bytes received and sent.
_HEADER, _RECEIVED, _SENT = 2, 0, 8

_Counts: TypeAlias = dict[str, tuple[int, int]]


class Network:
    """The network columns of HostCollector.

    /proc/net/dev has the interfaces of the namespace. It lists the counters of all of them, which takes long
    on a machine with many containers, so those that count are read in /sys. But /sys shows the namespace in
    which it was mounted: where its numbers are others, the list is read in every sample.

    ``root`` is the number in ``proc`` of another process, whose namespace is read. Raises OSError if there is
    no list.
    """

    def __init__(self, proc: Path, sys: Path, root: int | None = None) -> None:
        self._folder, self._sys = proc / ("self" if root is None else str(root)), sys
        self._namespace = "" if root is None else self._read_namespace()
        self.errors: dict[str, str] = {}
        self.metrics: Sequence[Metric] = METRICS
        self._open()

    def _open(self) -> None:
        self._list = SystemFile(self._folder / "net" / "dev")
        self._due = 0.0
        self._listed: Collection[str] = ()
        self._files: dict[str, tuple[SystemFile, SystemFile]] = {}
        self._rates: dict[str, tuple[Rate, Rate]] = {}  # of the interfaces that count
        self._known: set[str] = set()  # those of them that were read before

    def refresh(self, allowed: Allowed) -> None:
        """Do nothing: no limit changes what is read here."""

    def collect(self) -> dict[str, float]:
        """Return a value for each column, NaN in the first reading.

        An interface that has just come counts from its second reading on. Raises OSError if the interfaces
        cannot be read.
        """
        if self._namespace:
            self._follow()
        clock = time.monotonic()
        if clock >= self._due:
            self._due = clock + _EVERY
            self._choose(self._read_list())
        received = sent = 0.0
        counted = False
        for name, (bytes_received, bytes_sent) in self._read().items():
            by_received, by_sent = self._rates[name]
            more_received, more_sent = (
                by_received.update(bytes_received, clock),
                by_sent.update(bytes_sent, clock),
            )
            if name in self._known:
                received += more_received
                sent += more_sent
                counted = True
            else:
                self._known.add(name)
        if not counted or math.isnan(received + sent):
            received = sent = math.nan
            self._explain(counted)
        elif self.errors:
            self.errors = {}
        return {_NAMES[0]: received, _NAMES[1]: sent}

    def _explain(self, counted: bool) -> None:
        """Say why there is no number, except in the first reading."""
        reason = "a counter of the network began anew; the next reading has a number again" if counted else ""
        if not self._rates:
            reason = "this network namespace has no interface except the loopback"
        self.errors = dict.fromkeys(_NAMES, reason) if reason else {}

    def _read(self) -> _Counts:
        """Return the bytes received and sent so far of each interface that counts."""
        try:
            if self._files:
                return {
                    name: (int(files[0].read()), int(files[1].read())) for name, files in self._files.items()
                }
        except OSError:  # it has gone
            self._listed = ()
        listed = self._read_list()
        if listed.keys() != self._listed:
            self._choose(listed)
        return {name: listed[name] for name in self._rates}

    def _read_list(self) -> _Counts:
        """Return the same of all interfaces of the namespace."""
        found = {}
        for line in self._list.read_list().split(b"\n")[_HEADER:]:
            name, colon, numbers = line.partition(b":")
            if colon:
                fields = numbers.split(None, _SENT + 1)
                found[os.fsdecode(name.strip())] = int(fields[_RECEIVED]), int(fields[_SENT])
        return found

    def _choose(self, listed: _Counts) -> None:
        """Choose the interfaces that count, and where their counters are read."""
        self._listed = listed.keys()
        chosen = outside(listed, self._folder, self._sys)
        self._rates = {name: self._rates.get(name) or (Rate(), Rate()) for name in chosen}
        self._known.intersection_update(chosen)
        self._files = {}
        try:
            files = {name: self._open_counters(name) for name in chosen}
            counts = {
                name: (int(received.read()), int(sent.read())) for name, (received, sent) in files.items()
            }
        except OSError:  # /sys does not show these interfaces
            files = {}
        else:
            later = self._read_list()
            between = all(
                low <= count <= high
                for name in chosen
                for low, count, high in zip(listed[name], counts[name], later.get(name, (0, 0)), strict=True)
            )
            if between:
                self._files = files
        folder = self._sys / "class" / "net"
        source = ", ".join(f"{folder / name}/statistics" for name in self._files) or str(self._list.path)
        self.metrics = tuple(replace(metric, source=source) for metric in METRICS)

    def _open_counters(self, name: str) -> tuple[SystemFile, SystemFile]:
        folder = self._sys / "class" / "net" / name / "statistics"
        return SystemFile(folder / "rx_bytes"), SystemFile(folder / "tx_bytes")

    def _follow(self) -> None:
        """Open the list again if the process is in another namespace now, as below ``ip netns exec``."""
        namespace = self._read_namespace()
        if namespace not in ("", self._namespace):
            self._namespace = namespace
            self._open()

    def _read_namespace(self) -> str:
        try:
            return os.readlink(self._folder / "ns" / "net")  # noqa: PTH115 - the text is enough
        except OSError:  # it has ended: what was opened stays readable; or it belongs to another user
            return ""
