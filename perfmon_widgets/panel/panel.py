"""PerformancePanel: gauges, controls and charts over one monitor."""

from __future__ import annotations

from typing import Any

import ipywidgets

from perfmon_widgets.core.guard import guard
from perfmon_widgets.core.protocol import Monitor, check_monitor, on_interval
from perfmon_widgets.core.shared import default_monitor
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.jupyter import kernel
from perfmon_widgets.jupyter.black_box import last_death
from perfmon_widgets.jupyter.requests import hear_widgets_while_busy
from perfmon_widgets.metrics import Sample
from perfmon_widgets.panel.actions import Actions
from perfmon_widgets.panel.controls import Control
from perfmon_widgets.panel.controls.export_csv import export_csv
from perfmon_widgets.panel.controls.guard_memory import guard_memory
from perfmon_widgets.panel.controls.interval import interval
from perfmon_widgets.panel.controls.log_to_csv import log_to_csv
from perfmon_widgets.panel.controls.start import start
from perfmon_widgets.panel.controls.window import widest, window
from perfmon_widgets.panel.death_line import death_line
from perfmon_widgets.panel.displayed import notify_displayed
from perfmon_widgets.panel.dock import Dock
from perfmon_widgets.panel.fallback import fallback
from perfmon_widgets.panel.former import replace_former
from perfmon_widgets.panel.gauges import Gauges
from perfmon_widgets.panel.layout import Layout
from perfmon_widgets.panel.link import Link, Page
from perfmon_widgets.panel.parts import parts_of
from perfmon_widgets.panel.sections import Sections
from perfmon_widgets.panel.snapshot import Snapshot
from perfmon_widgets.panel.verdict import Verdict
from perfmon_widgets.panel.viewers import Viewers
from perfmon_widgets.views.gauges import in_lines
from perfmon_widgets.views.local_time import format_clock, set_zone
from perfmon_widgets.views.text import format_value


class PerformancePanel(ipywidgets.VBox):
    """Gauges, a line of plain words, controls and an accordion of charts, live while the kernel is busy.

    Its parts are ordinary widgets that can be arranged in another way: ``gauges`` (HBox), ``advanced``
    (Accordion; with all sections closed the panel is in its basic view), ``log_to_csv`` and ``guard_memory``
    (Checkboxes) and ``export_csv``. In a Jupyter kernel that has died before, a line says what of. Running a
    cell again closes the panels that the same cell made before.

    Args:
        monitor: a PerformanceMonitor, or an object with the same members; the panel does not start it. By
            default the shared monitor if it runs, else the running one that was started last, else the shared
            one, which the panel starts.

    Raises TypeError, naming what is missing, for an object that is no monitor.
    """

    def __init__(self, monitor: Monitor | None = None) -> None:
        if monitor is not None:
            check_monitor(monitor)
        self.monitor = default_monitor() if monitor is None else monitor
        self._dock = Dock()
        self._is_over = False  # closed, or the copy of a panel in a forked child: nothing is drawn any more
        self._viewers = Viewers()
        self._link = Link(heartbeat=self._viewers.heartbeat)
        self.gauges = Gauges(self.monitor, self._link)
        self._verdict = Verdict(self.monitor)
        self.advanced = Sections(self.monitor, self._link, widest(self.monitor))
        log, export = log_to_csv(self.monitor), export_csv(self.monitor, self._link)
        guarding = guard_memory(guard)
        self.log_to_csv, self.guard_memory, self.export_csv = log.widget, guarding.widget, export.widget
        chart_window = window(self.monitor, self.advanced.set_window)
        # Left to right.
        row = (start(self.monitor), log, guarding, chart_window, interval(self.monitor), export)
        self._controls = (
            *row,
            Control("open section", self.advanced, "selected_index"),
            Control("timeline", self.advanced.timeline, "request", self.advanced.look),
        )
        self._actions = Actions(self.monitor, self._controls, self._show_changes)
        self._snapshot = Snapshot(
            self.monitor,
            f"perfmon-snapshot-{self._link.model_id}",
            self._cell_ended,
            lambda: self.advanced.open_group,
        )
        notes = [control.note for control in row if control.note is not None]
        steering = ipywidgets.HBox(
            [*(control.widget for control in row), *notes],
            layout=Layout(flex_flow="row wrap", align_items="center"),
        )
        steering.add_class("perfmon-controls")
        died = death_line(last_death())
        super().__init__(
            [self.gauges, *died, steering, self.advanced, self._verdict, fallback()], layout=Layout()
        )
        self.add_class("perfmon-panel")
        self._connect()
        replace_former(self)
        notify_displayed(self)
        if monitor is None:
            self.monitor.start()
        self.monitor.on_sample(self._show_sample)  # before the first drawing, so that no sample is missed
        self.monitor.on_state(self._show_state)
        on_interval(self.monitor, self._show_interval)
        self._show_all()
        if self.monitor.latest is not None and not self.monitor.running:
            self._show_state(running=False)

    def _connect(self) -> None:
        """Make the messages of the browsers arrive while a cell runs."""
        hear_widgets_while_busy()
        self._link.controls = [control.widget for control in self._controls]
        self._link.on_viewers(self._looked_at)
        renew_after_fork(self)

    # -- drawing ---------------------------------------------------------------------------------------

    def _show_sample(self, sample: Sample) -> None:
        """Draw a sample if a page shows the panel: one message for all gauges, one per chart that moves."""
        if not self._is_over and self._viewers.present:
            self._show_all(sample)

    def _show_all(self, sample: Sample | None = None) -> None:
        """Draw everything, but the open section only if it is due; without a ``sample`` it always is."""
        # The gauges are sent last, so that a browser draws them together with the charts.
        with self._actions.writing(), self._link.hold_sync():
            if self._is_over:  # it was closed while this waited for the lock
                return
            self.gauges.show(is_new=sample is not None)
            self._verdict.show()
            self.advanced.show_new()
            if sample is None or self.advanced.is_due(sample):
                self.advanced.show()
            self.advanced.show_running()
            self._show_controls()

    def _show_state(self, running: bool) -> None:
        """Draw at once that the monitor was started or stopped."""
        with self._actions.writing():
            if self._is_over:
                return
            self.gauges.show_state(running)
            self._verdict.show()
            self._show_controls()
            if not running:
                self.advanced.show_rest()
                self._snapshot.keep()

    def _show_interval(self, _: float) -> None:
        """Draw at once that the interval has changed, since the next sample may be long in coming."""
        with self._actions.writing():
            if not self._is_over and self._viewers.present:
                self.gauges.show_interval()
                self._show_controls()

    def _show_changes(self) -> None:
        """Draw what an action of a person may have changed, and samples that the open section left out."""
        if not self._is_over:
            self.gauges.show_interval()
            self._show_controls()
            self.advanced.show_rest()

    def _show_controls(self) -> None:
        if not self._actions.waiting:
            for control in self._controls:
                control.show()

    def _cell_ended(self) -> None:
        self._viewers.cell_ended()
        self._show_what_is_stored()

    def _show_what_is_stored(self) -> None:
        """Draw the newest sample, since a notebook may store the widgets although no page shows them."""
        latest = self.monitor.latest
        if latest is not None and latest.time != self._link.readings["time"]:
            self._show_all()
        else:
            with self._actions.writing():
                self._show_changes()

    def _looked_at(self, page: Page) -> None:
        """Note a page's report; draw everything for a page that is new, or whose clock differs."""
        is_new = self._viewers.heard(page.name, page.views, while_busy=page.while_busy)
        if set_zone(page.zone, page.minutes) or is_new:
            self._actions.run("panel", self._show_all)

    # -- coming and going ------------------------------------------------------------------------------

    def dock(self) -> None:
        """Show the panel beside the notebook, where it does not scroll away: in JupyterLab, with ``sidecar``.

        Where the page cannot do that, the panel is shown below the cell, with a sentence that says so. To
        open the tab again after it was closed there, call this again. ``close()`` closes the tab, too.

        Raises RuntimeError for a closed panel and outside a Jupyter kernel, and ModuleNotFoundError if the
        package sidecar is not installed there.
        """
        if self._is_over:
            raise RuntimeError("this panel is closed; make a new PerformancePanel to dock")
        self._dock.open(self)
        if not self._viewers.present:
            kernel.show(self)

    def close(self) -> None:
        """Take the panel off the screen and end its updates; the monitor goes on."""
        if "_snapshot" not in vars(self):  # the monitor was refused: ipywidgets closes what is dropped
            super().close()
            return
        if self._is_over:
            return
        self.monitor.on_sample(self._show_sample, remove=True)
        self.monitor.on_state(self._show_state, remove=True)
        on_interval(self.monitor, self._show_interval, remove=True)
        notify_displayed(self, remove=True)
        self._snapshot.close()
        self._dock.close()
        with self._actions.writing():
            self._is_over = True
            for widget in parts_of(self, *self.gauges.all_parts()) - {self}:
                widget.close()
            super().close()
            # IPython keeps the panel in Out, if a cell has shown it; its parts need not be kept.
            self.children = ()
            self.gauges.release()
            self.advanced.release()

    def renew_after_fork(self) -> None:
        """In a forked child: draw nothing, since the browser is the parent's."""
        self._is_over = True

    def in_lines(self) -> str:
        """Return the newest values as aligned lines of text, for a terminal, which shows no widgets."""
        monitor = self.monitor
        lines = in_lines(monitor.metrics, monitor.latest, monitor.errors)
        state = f"sampled every {monitor.interval:g} s" if monitor.running else "the monitor is stopped"
        if monitor.latest is None:
            return f"{lines}\n{state}"
        return f"{lines}\nat {format_clock(monitor.latest.time)}, {state}"

    def __repr__(self) -> str:
        values = ", ".join(
            f"{label} {format_value(reading.percent, 'percent')}"
            for label, reading in self.gauges.readings().items()
        )
        return f"<PerformancePanel: {values}>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return what any widget does, with a text that is the same each time: notebooks are compared."""
        bundle = super()._repr_mimebundle_(**options)
        bundle["text/plain"] = "PerformancePanel" if kernel.is_jupyter_kernel() else self.in_lines()
        return bundle

    def is_shown_by(self, parts: set[ipywidgets.Widget]) -> bool:
        """Return whether the panel, or a part of it that moves, is among these widgets."""
        return not parts.isdisjoint({self, self.gauges, self.advanced, *self.gauges.children})

    def displayed(self, how: kernel.Shown, *, alone: bool) -> None:
        """Note that an output of a cell shows the panel: keep what a notebook stores up to date."""
        if self._is_over:
            return
        self._viewers.shown()
        if how is kernel.Shown.RESULT:
            self._viewers.cell_ended()
        self._show_what_is_stored()
        if how is not kernel.Shown.UPDATED:
            place = "" if not alone else "before" if how is kernel.Shown.DISPLAYED else "after"
            self._snapshot.show(place)
