"""Gauges: the row of gauges, and how their readings are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from perfmon_widgets.panel.gauge import Gauge
from perfmon_widgets.panel.layout import Layout
from perfmon_widgets.panel.link import Link
from perfmon_widgets.views.gauges import Reading, readings
from perfmon_widgets.views.sent import sent

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor

_MANY = 8  # more gauges than this are smaller, since they take two rows


class Gauges(ipywidgets.HBox):
    """A gauge for each reading of the monitor's newest sample; one message carries the readings of all."""

    children: tuple[Gauge, ...]  # ipywidgets has no types

    def __init__(self, monitor: Monitor, link: Link) -> None:
        self._monitor = monitor
        self._link = link
        self._by_label: dict[str, Gauge] = {}  # all there ever were: a GPU may be used again
        self._layout_of_each = Layout(width="auto")
        super().__init__(
            layout=Layout(
                display="grid",  # rows below one another stay in line
                grid_template_columns="repeat(auto-fill, minmax(148px, 1fr))",
                overflow="visible",
            )
        )

    def readings(self) -> dict[str, Reading]:
        """Return the reading of each gauge by its label."""
        return readings(self._monitor.metrics, self._monitor.latest, self._monitor.errors)

    def show(self, *, is_new: bool = False) -> None:
        """Send the readings of the newest sample, and make gauges for those that have none.

        ``is_new``: it has just been taken, perhaps by hand while the monitor is stopped; it is live then.
        """
        sample, running = self._monitor.latest, self._monitor.running or is_new
        found = self.readings()
        for label in found:
            if label not in self._by_label:
                self._by_label[label] = Gauge(label=label, link=self._link, layout=self._layout_of_each)
        # The time in it always differs from the last one, so that ipywidgets sends it even if no number has
        # changed. A browser that gets no messages takes the kernel for one that does not answer.
        self._link.readings = sent(found, sample, self._monitor.interval, running=running)
        shown = tuple(self._by_label[label] for label in found)
        if shown != self.children:
            self.children = shown
            (self.add_class if len(shown) > _MANY else self.remove_class)("perfmon-many-gauges")

    def show_state(self, running: bool) -> None:
        """Show that the monitor was started or stopped; the numbers stay."""
        if self._monitor.latest is None:
            self.show()
        else:
            self._link.readings = {**self._link.readings, "state": "live" if running else "stopped"}

    def show_interval(self) -> None:
        """Send the interval if it has changed: a browser that has a shorter one takes the numbers for old."""
        self._link.readings = {**self._link.readings, "interval": self._monitor.interval}

    def all_parts(self) -> tuple[Gauge, ...]:
        """Return every gauge that was made, those that are not shown now among them."""
        return tuple(self._by_label.values())

    def release(self) -> None:
        """Remove all references to the gauges."""
        self.children = ()
        self._by_label.clear()
