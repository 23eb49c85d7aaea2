"""PerformancePanel: gauges, charts and controls over one monitor."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets

from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.core.shared import shared_monitor
from perfmon_widgets.jupyter import kernel
from perfmon_widgets.jupyter.requests import hear_widgets_while_busy
from perfmon_widgets.metrics import RECORDED, Sample
from perfmon_widgets.panel import controls
from perfmon_widgets.panel.gauge import Gauge, in_json
from perfmon_widgets.panel.link import Link
from perfmon_widgets.panel.section import Section
from perfmon_widgets.panel.snapshot import Snapshot
from perfmon_widgets.panel.viewers import Viewers
from perfmon_widgets.views.columns import groups, title_of
from perfmon_widgets.views.gauges import Reading, readings
from perfmon_widgets.views.stretches import MAX_STRETCHES
from perfmon_widgets.views.text import format_value


class PerformancePanel(ipywidgets.VBox):
    """Gauges, controls and an accordion of charts, live while the kernel is busy.

    Without an argument it shows the one monitor that the panels of this Jupyter kernel share, and starts it.
    Its parts are ordinary widgets to be laid out anew: ``gauges`` (HBox), ``advanced`` (Accordion; closed is
    the basic view), ``log_to_csv`` (Checkbox), ``export_csv``. Running a cell again closes the panels that
    the same cell made before. Raises TypeError for what is no monitor.
    """

    def __init__(self, monitor: PerformanceMonitor | None = None) -> None:
        if not isinstance(monitor, PerformanceMonitor | None):
            raise TypeError(f"monitor must be a PerformanceMonitor, not {type(monitor).__name__}")
        self.monitor = shared_monitor() if monitor is None else monitor
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._writer: int | None = None
        self._groups = groups(self.monitor.metrics)
        self._audience = Viewers()
        self._link = Link()
        name = f"perfmon-snapshot-{self._link.model_id}"
        self._snapshot = Snapshot(self.monitor, name, self._send_what_is_stored, self._opened)
        self.gauges = ipywidgets.HBox(
            layout={
                "display": "grid",  # rows below one another stay in line
                "grid_template_columns": "repeat(auto-fill, minmax(148px, 1fr))",
                "overflow": "visible",
            }
        )
        self._by_label: dict[str, Gauge] = {}
        self.log_to_csv = controls.log_checkbox()
        self._log_state = ipywidgets.HTML(layout={"min_width": "0"})
        self.export_csv = controls.ExportButton(link=self._link)
        self._window = controls.window_choice(self.monitor.window)
        self._interval = controls.interval_choice(self.monitor.interval)
        self._sections = {name: self._section(name) for name in self._groups}
        self.advanced = ipywidgets.Accordion(
            children=tuple(self._sections.values()),
            titles=[title_of(name) for name in self._groups],
            selected_index=None,
        )
        steering = ipywidgets.HBox(
            [self.log_to_csv, self._window, self._interval, self.export_csv, self._log_state],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        super().__init__([self.gauges, steering, self.advanced, controls.fallback()])
        self.add_class("perfmon-panel")
        self.advanced.add_class("perfmon-advanced")
        self._listen()
        _replace_former(self)
        if monitor is None:
            self.monitor.start()
        self.monitor.on_sample(self._show)  # before the first look, so that no sample falls in between
        self.monitor.on_state(self._show_state)
        self._show_all()
        if self.monitor.latest is not None and not self.monitor.running:
            self._show_state(running=False)

    # -- what the monitor tells ------------------------------------------------------------------------

    def _show(self, sample: Sample) -> None:
        """Draw a sample: one message for all gauges, and one for each chart that it moves."""
        if os.getpid() != self._process:
            return  # the browser, and whoever held the lock when the fork happened, are the parent's
        if self._audience.is_due(self.monitor.interval):
            self._show_all(sample)

    def _show_all(self, sample: Sample | None = None) -> None:
        """Draw what there is; the open section is left out if a ``sample`` is given that moves no line."""
        # The gauges wait for the charts, so that a browser draws both at once.
        with self._writing(), self._link.hold_sync():
            if self.comm is None:  # it was closed while this waited
                return
            self._show_gauges()
            self._show_recorded()
            if sample is None or self._section_is_due(sample):
                self._show_section()
            self._show_controls()

    def _section_is_due(self, sample: Sample) -> bool:
        """Whether this sample moves the lines of the open section, or is the last for now."""
        section = self._open_section()
        return section is not None and (
            not self.monitor.running or section.is_due(sample.time, self.monitor.interval)
        )

    def _section(self, name: str) -> Section:
        return Section(name, self.monitor.metrics, self._window.value, self._link)

    def _show_recorded(self) -> None:
        """Have a section for what was recorded, made anew when there is a series more."""
        recorded = [metric for metric in self.monitor.metrics if metric.group == RECORDED]
        if len(recorded) == len(self._groups.get(RECORDED, ())):
            return
        former = self._sections.get(RECORDED)
        self._groups[RECORDED] = recorded
        self._sections[RECORDED] = self._section(RECORDED)
        with self.advanced.hold_sync():
            self.advanced.children = tuple(self._sections.values())
            self.advanced.titles = [title_of(name) for name in self._groups]
        if former is not None:
            for widget in _parts(former, {former}) - _parts(self, {self}):
                widget.close()

    def _show_gauges(self) -> None:
        sample = self.monitor.latest
        found = self._readings()
        for label in found:
            if label not in self._by_label:
                self._by_label[label] = Gauge(label=label, link=self._link, layout={"width": "auto"})
        if sample is None:
            why = "starting…" if self.monitor.running else "monitor is stopped"
            gauges: dict[str, Any] = {label: {"detail": why} for label in found}
        else:
            gauges = {label: in_json(reading) for label, reading in found.items()}
        pace = self._audience.pace(self.monitor.interval)
        self._link.readings = {
            "state": "live" if sample is not None or self.monitor.running else "stopped",
            # Makes the readings others than the last, so that they are sent though nothing changed: the
            # browser takes silence for a kernel that does not answer.
            "time": sample.time if sample is not None else None,
            "interval": pace if math.isfinite(pace) else self.monitor.interval,
            "gauges": gauges,
        }
        shown = tuple(self._by_label[label] for label in found)
        if shown != self.gauges.children:
            self.gauges.children = shown

    def _readings(self) -> dict[str, Reading]:
        return readings(self.monitor.metrics, self.monitor.latest, self.monitor.errors)

    def _show_state(self, running: bool) -> None:
        """Say at once that the monitor was started or stopped; the numbers stay."""
        if os.getpid() != self._process:
            return
        with self._writing():
            if self.comm is None:
                return
            if self.monitor.latest is None:
                self._show_gauges()
            else:
                state = "live" if running else "stopped"
                self._link.readings = {**self._link.readings, "state": state}
            if not running:
                self._show_controls()
                self._snapshot.keep()
                self._show_rest()

    def _show_section(self) -> None:
        section = self._open_section()
        if section is not None and self.monitor.latest is not None:
            section.show(self.monitor.history, self.monitor.errors, self.monitor.newest_spans(MAX_STRETCHES))

    def _show_rest(self) -> None:
        """Draw the samples that the open section has left out, if anybody looks."""
        section, latest = self._open_section(), self.monitor.latest
        if section is None or latest is None or math.isinf(self._audience.pace(self.monitor.interval)):
            return
        if abs(section.newest - latest.time) > 1e-5:  # the history has microseconds
            self._show_section()

    def _open_section(self) -> Section | None:
        place, sections = self.advanced.selected_index, self.advanced.children
        found = sections[place] if place is not None and place < len(sections) else None
        return found if isinstance(found, Section) else None

    def _opened(self) -> str | None:
        """The group whose section is open."""
        place = self.advanced.selected_index
        return None if place is None else list(self._groups)[place]

    def _show_controls(self) -> None:
        """The controls say what is, whoever changed it."""
        log = self.monitor.log
        self.log_to_csv.value = log.running
        self._log_state.value = controls.log_state(log)
        controls.offer_interval(self._interval, self.monitor.interval)

    # -- what the browser tells ------------------------------------------------------------------------

    def _listen(self) -> None:
        hear_widgets_while_busy()
        self._link.controls = [
            self.log_to_csv,
            self._window,
            self._interval,
            self.export_csv,
            self.advanced,
        ]
        self._link.on_audience(self._looked_at)
        self.log_to_csv.observe(lambda change: self._soon(lambda: self._switch_log(change["new"])), "value")
        self._interval.observe(lambda change: self._soon(lambda: self._set_interval(change["new"])), "value")
        self._window.observe(lambda _: self._soon(self._set_window), "value")
        self.advanced.observe(lambda _: self._soon(self._show_section), "selected_index")
        self.export_csv.on_export(lambda send: self._soon(lambda: send(self.monitor.log.export())))

    def _looked_at(self, page: str, views: int) -> None:
        if self._audience.heard(page, views):
            self._soon(self._show_all)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One thread at a time writes the widgets, and what it writes is nobody's wish."""
        with self._lock:
            before, self._writer = self._writer, threading.get_ident()
            try:
                yield
            finally:
                self._writer = before

    def _soon(self, action: Callable[[], None]) -> None:
        """Do what a person asked for: here if this is the main thread, else on the sampling thread.

        The thread that hears the browser while a cell runs also carries interrupts, so it is not kept.
        """
        if self._writer == threading.get_ident():
            return
        if threading.current_thread() is threading.main_thread():
            self._act(action)
        else:
            self.monitor.call_soon(lambda: self._act(action))

    def _act(self, action: Callable[[], None]) -> None:
        with self._writing():
            action()
            self._show_controls()

    def _switch_log(self, wanted: bool) -> None:
        log = self.monitor.log
        if wanted == log.running:
            return
        try:
            log.start() if wanted else log.stop()
        except OSError:
            self.log_to_csv.value = False  # the log knows why, and is shown with it
            self.log_to_csv.send_state("value")

    def _set_interval(self, seconds: float) -> None:
        if seconds != self.monitor.interval:
            self.monitor.interval = seconds
            self._show_rest()  # the next sample may be far off

    def _set_window(self) -> None:
        for section in self._sections.values():
            section.set_window(self._window.value)
        self._show_section()

    # -- coming and going ------------------------------------------------------------------------------

    def close(self) -> None:
        """Take the panel off the screen and end its updates; the monitor goes on."""
        if "advanced" not in vars(self):  # it was never made: ipywidgets closes whatever is dropped
            super().close()
            return
        self.monitor.on_sample(self._show, remove=True)
        self.monitor.on_state(self._show_state, remove=True)
        self._snapshot.close()
        with self._lock:
            parts = _parts(self, {self})
            for gauge in self._by_label.values():  # some may not be shown now
                parts |= _parts(gauge, {gauge})
            for widget in parts - {self}:
                widget.close()
            super().close()
            # IPython keeps what a cell has shown; it need not keep all that this was made of.
            self.children = self.gauges.children = self.advanced.children = ()
            self._sections.clear()
            self._by_label.clear()

    def __repr__(self) -> str:
        found = self._readings()
        values = ", ".join(
            f"{label} {format_value(each.percent, 'percent')}" for label, each in found.items()
        )
        return f"<PerformancePanel: {values}>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """As any widget, but with a text that is the same each time: notebooks are compared."""
        bundle = super()._repr_mimebundle_(**options)
        if not kernel.is_jupyter_kernel():
            bundle["text/plain"] = repr(self)
            return bundle
        bundle["text/plain"] = "PerformancePanel"
        self._audience.shown()
        self._send_what_is_stored()
        self._snapshot.show()
        return bundle

    def _send_what_is_stored(self) -> None:
        # A notebook may store the widgets though nobody looks at them.
        latest = self.monitor.latest
        if latest is not None and latest.time != self._link.readings["time"]:
            self._show_all()
        else:
            with self._writing():
                self._show_rest()


_former: dict[str, tuple[str, list[weakref.ref[PerformancePanel]]]] = {}


def _replace_former(panel: PerformancePanel) -> None:
    """Close the panels that earlier executions of the running cell made, and remember this one."""
    cell = kernel.running_cell()
    if cell is None:
        return
    execution, panels = _former.get(cell.identity, ("", []))
    if execution != cell.execution:
        for reference in panels:
            former = reference()
            if former is not None:
                former.close()
        panels = []
    _former[cell.identity] = (cell.execution, [*panels, weakref.ref(panel)])


def _parts(widget: ipywidgets.Widget, known: set[ipywidgets.Widget]) -> set[ipywidgets.Widget]:
    """All widgets that a widget is made of, with those that are known already."""
    for key in widget.keys:
        value = getattr(widget, key)
        value = list(value.values()) if isinstance(value, dict) else value
        for part in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(part, ipywidgets.Widget) and part not in known:
                known.add(part)
                _parts(part, known)
    return known
