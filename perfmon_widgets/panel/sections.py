"""Sections: the accordion with a section of charts for each group of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from perfmon_widgets.metrics import Sample
from perfmon_widgets.panel.layout import Layout
from perfmon_widgets.panel.link import Link
from perfmon_widgets.panel.parts import parts_of
from perfmon_widgets.panel.section import Section
from perfmon_widgets.panel.timeline import Period, Request, Timeline, choose, within
from perfmon_widgets.views.columns import groups, title_of
from perfmon_widgets.views.stretches import MAX_STRETCHES

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor

# Seconds by which a time in the history, rounded to microseconds, may differ from that of its sample.
_ROUNDED = 1e-5


class Sections(ipywidgets.Accordion):
    """A section for each group of metrics; only the open one is drawn, and all closed is the basic view.

    Args:
        monitor: whose history is drawn.
        link: the link of the panel.
        window: seconds of the history that the charts show at first.
    """

    def __init__(self, monitor: Monitor, link: Link, window: float) -> None:
        self._monitor = monitor
        self._window = window
        self._chosen: Period | None = None  # what a person looks at instead of the newest rows
        self.timeline = Timeline(link, layout=Layout(width="100%"))
        """The row of the open section that steers which time is shown."""
        self._groups = groups(monitor.metrics)
        self._count = sum(map(len, self._groups.values()))  # of columns that have a section
        self._layout_of_each = Layout()
        self._sections = {name: self._section(name) for name in self._groups}
        super().__init__(
            children=tuple(self._sections.values()),
            titles=[title_of(name) for name in self._groups],
            selected_index=None,
            layout=Layout(),
        )
        self.add_class("perfmon-advanced")

    def _section(self, group: str) -> Section:
        layout = self._layout_of_each  # one for all: a notebook stores each
        return Section(group, self._monitor.metrics, self._window, self.timeline, layout=layout)

    @property
    def open_group(self) -> str | None:
        """The group whose section is open; None if all are closed."""
        place = self.selected_index
        return None if place is None else list(self._groups)[place]

    def _open_section(self) -> Section | None:
        # A program may have given the accordion children of its own.
        place, sections = self.selected_index, self.children
        found = sections[place] if place is not None and place < len(sections) else None
        return found if isinstance(found, Section) else None

    def is_due(self, sample: Sample) -> bool:
        """Return whether this sample moves the lines of the open section, or is the last for now."""
        section = self._open_section()
        if section is None:
            return False
        if self._chosen is not None:  # what a person holds does not move
            return not section.shows(self._chosen)
        return not self._monitor.running or section.is_due(sample.time, self._monitor.interval)

    def show(self) -> None:
        """Draw the open section; one that shows what a person holds stays as it is."""
        section = self._open_section()
        if section is None or self._monitor.latest is None:
            return
        if self._chosen is not None and not section.shows(self._chosen):
            self._chosen = within(self._chosen, self._known())  # the oldest rows may have gone
        if self._chosen is None or not section.shows(self._chosen):
            section.show(
                self._monitor.history,
                self._monitor.errors,
                self._monitor.newest_spans(MAX_STRETCHES),
                chosen=self._chosen,
                is_running=self._monitor.running,
            )

    def show_rest(self) -> None:
        """Draw the open section unless it shows what it should: the newest sample, or what was chosen."""
        section, latest = self._open_section(), self._monitor.latest
        if section is None or latest is None:
            return
        moved = self._chosen is None and abs(section.newest - latest.time) > _ROUNDED
        if moved or not section.shows(self._chosen):
            self.show()

    def show_running(self) -> None:
        """Name the cell that runs, while the charts are held and so are not drawn."""
        if self._chosen is not None:
            self.timeline.show_running(self._monitor.newest_spans(MAX_STRETCHES), is_live=False)

    def _known(self) -> Period:
        """The time of the rows that are kept; they are not in order where the clock was set back."""
        index = self._monitor.history.index
        return Period(index.min().timestamp(), index.max().timestamp())

    def look(self, request: Request) -> None:
        """Choose what a person asked for: a period of the history, or the newest rows."""
        section = self._open_section()
        if section is not None and section.period is not None:
            self._chosen = choose(request, section.period, self._known(), is_live=self._chosen is None)

    def show_new(self) -> None:
        """Show columns that were added: series of ``record()``, or a worker that has joined.

        A group that is new gets a section; that of a group with more columns is replaced.
        """
        metrics = self._monitor.metrics
        if len(metrics) == self._count:
            return
        self._count = len(metrics)
        former = []
        for name, members in groups(metrics).items():
            if len(members) != len(self._groups.get(name, ())):
                former += [self._sections[name]] if name in self._sections else []
                self._groups[name] = members
                self._sections[name] = self._section(name)
        with self.hold_sync():
            self.children = tuple(self._sections.values())
            self.titles = [title_of(name) for name in self._groups]
        for section in former:
            for widget in parts_of(section) - parts_of(self, self.timeline, self.timeline.link):
                widget.close()

    def set_window(self, seconds: float) -> None:
        """Show the last ``seconds`` of the history in every section, from the next drawing on."""
        self._window = seconds
        self._chosen = None
        for section in self._sections.values():
            section.set_window(seconds)

    def release(self) -> None:
        """Remove all references to the sections."""
        self.children = ()
        self._sections.clear()
