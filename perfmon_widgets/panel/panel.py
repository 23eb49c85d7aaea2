"""PerformancePanel: gauges, charts and controls over one monitor."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets

from perfmon_widgets.kernel import hear_widgets_while_busy, running_cell
from perfmon_widgets.metrics import MISSING, Metric, Sample
from perfmon_widgets.monitor import PerformanceMonitor, shared_monitor
from perfmon_widgets.panel import controls
from perfmon_widgets.panel.gauge import Gauge
from perfmon_widgets.panel.reading import readings
from perfmon_widgets.panel.section import Section

# The sections in the order of the panel; other groups follow under their own names.
_TITLES = {"gpu": "GPU", "cpu": "CPU", "memory": "Memory", "disk": "Disk", "process": "This process"}


class PerformancePanel(ipywidgets.VBox):
    """Gauges, controls and an accordion of charts, live while the kernel is busy.

    Without an argument it shows the one monitor that the panels of this Jupyter kernel share, and starts it.
    Its parts are ordinary widgets to be laid out anew: ``gauges`` (HBox), ``advanced`` (Accordion; closed is
    the basic view), ``log_to_csv`` (Checkbox), ``export_csv``. Running a cell again closes the panels that
    the same cell made before.
    """

    def __init__(self, monitor: PerformanceMonitor | None = None) -> None:
        self.monitor = shared_monitor() if monitor is None else monitor
        self._lock = threading.RLock()
        self._writer: int | None = None
        self._groups = _groups(self.monitor.metrics)
        self.gauges = ipywidgets.HBox(layout={"flex_flow": "row wrap", "overflow": "visible"})
        self._by_label: dict[str, Gauge] = {}
        self.log_to_csv = controls.log_checkbox()
        self._log_state = ipywidgets.HTML(layout={"min_width": "0"})
        self.export_csv = controls.ExportButton()
        self._window = controls.window_choice(self.monitor.window)
        self._interval = controls.interval_choice(self.monitor.interval)
        self._sections = tuple(
            Section(_TITLES.get(name, name), metrics, self._window.value)
            for name, metrics in self._groups.items()
        )
        self.advanced = ipywidgets.Accordion(
            children=self._sections,
            titles=[_TITLES.get(name, name) for name in self._groups],
            selected_index=None,
        )
        steering = ipywidgets.HBox(
            [self.log_to_csv, self._window, self._interval, self.export_csv, self._log_state],
            layout={"flex_flow": "row wrap", "align_items": "center"},
        )
        super().__init__([self.gauges, steering, self.advanced])
        self.add_class("perfmon-panel")
        self.advanced.add_class("perfmon-advanced")
        self._listen()
        _replace_former(self)
        if monitor is None:
            self.monitor.start()
        self.monitor.on_sample(self._show)  # before the first look, so that no sample falls in between
        self._show(self.monitor.latest)

    # -- what the monitor tells ------------------------------------------------------------------------

    def _show(self, sample: Sample | None) -> None:
        """Draw a sample: one message for each gauge, and one for each chart of the open section."""
        with self._writing():
            self._show_gauges(sample)
            self._show_section()
            self._show_controls()

    def _show_gauges(self, sample: Sample | None) -> None:
        found = readings(self.monitor.metrics, sample, self.monitor.errors)
        for label, reading in found.items():
            if label not in self._by_label:
                self._by_label[label] = Gauge(label=label, layout={"flex": "1 1 128px", "max_width": "180px"})
            gauge = self._by_label[label]
            if sample is None:
                gauge.wait("starting…" if self.monitor.running else "monitor is stopped")
            else:
                gauge.show(reading, sample.time, self.monitor.interval)
        shown = tuple(self._by_label[label] for label in found)
        if shown != self.gauges.children:
            self.gauges.children = shown

    def _show_section(self) -> None:
        if self.advanced.selected_index is None or self.monitor.latest is None:
            return
        section = self._sections[self.advanced.selected_index]
        section.show(self.monitor.history, self.monitor.errors)

    def _show_controls(self) -> None:
        """The controls say what is, whoever changed it."""
        log = self.monitor.log
        self.log_to_csv.value = log.running
        self._log_state.value = controls.log_state(log)
        controls.offer_interval(self._interval, self.monitor.interval)

    # -- what the browser tells ------------------------------------------------------------------------

    def _listen(self) -> None:
        hear_widgets_while_busy()
        controlling = [self.log_to_csv, self._window, self._interval, self.export_csv, self.advanced]
        self.export_csv.controls = controlling
        self.log_to_csv.observe(lambda change: self._soon(lambda: self._switch_log(change["new"])), "value")
        self._interval.observe(lambda change: self._soon(lambda: self._set_interval(change["new"])), "value")
        self._window.observe(lambda _: self._soon(self._set_window), "value")
        self.advanced.observe(lambda _: self._soon(self._show_section), "selected_index")
        self.export_csv.on_export(lambda send: self._soon(lambda: send(self.monitor.log.export())))

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
            self.monitor.submit(lambda: self._act(action))

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

    def _set_window(self) -> None:
        for section in self._sections:
            section.set_window(self._window.value)
        self._show_section()

    # -- coming and going ------------------------------------------------------------------------------

    def close(self) -> None:
        """Take the panel off the screen and end its updates; the monitor goes on."""
        self.monitor.on_sample(self._show, remove=True)
        with self._lock:
            parts = _parts(self, {self})
            for gauge in self._by_label.values():  # some may not be shown now
                parts |= _parts(gauge, {gauge})
            for widget in parts - {self}:
                widget.close()
            super().close()

    def __repr__(self) -> str:
        values = ", ".join(
            f"{gauge.label} {gauge.reading.get('text', MISSING)}" for gauge in self.gauges.children
        )
        return f"<PerformancePanel: {values}>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """As any widget, but with a text that is the same each time: notebooks are compared."""
        bundle = super()._repr_mimebundle_(**options)
        bundle["text/plain"] = "PerformancePanel"
        return bundle


def _groups(metrics: tuple[Metric, ...]) -> dict[str, list[Metric]]:
    """The metrics by group, the known groups first and in their order."""
    groups: dict[str, list[Metric]] = {name: [] for name in _TITLES}
    for metric in metrics:
        groups.setdefault(metric.group, []).append(metric)
    return {name: members for name, members in groups.items() if members}


_former: dict[str, tuple[str, list[weakref.ref[PerformancePanel]]]] = {}


def _replace_former(panel: PerformancePanel) -> None:
    """Close the panels that earlier executions of the running cell made, and remember this one."""
    cell = running_cell()
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
