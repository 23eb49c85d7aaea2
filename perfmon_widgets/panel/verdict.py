"""Verdict: the line of the panel that says in plain words what matters now."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import ipywidgets

from perfmon_widgets.clocks import time
from perfmon_widgets.core.protocol import findings_of
from perfmon_widgets.panel.layout import Layout
from perfmon_widgets.views.findings import pressing

if TYPE_CHECKING:
    from perfmon_widgets.core.protocol import Monitor

# Seconds between two looks at the history, at least: one takes up to a millisecond, and the words change with
# the numbers in them, which is a message to the browser.
_EVERY = 5.0


class Verdict(ipywidgets.HTML):
    """The most pressing finding of a monitor, with the advice as its tooltip; empty if there is none."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._due = 0.0
        super().__init__(layout=Layout(order="-1"))  # above the gauges
        self.add_class("perfmon-verdict")

    def show(self) -> None:
        """Show what the newest rows say, every five seconds at most; nothing of a stopped monitor."""
        if not self._monitor.running:
            self.value, self._due = "", 0.0
            return
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _EVERY
            self.value = self._words()

    def _words(self) -> str:
        finding = pressing(findings_of(self._monitor))
        if finding is None:
            return ""
        return (
            f'<span class="perfmon-{finding.severity}" title="{html.escape(finding.advice)}">'
            f"<b>{html.escape(finding.what)}</b>: {html.escape(finding.evidence)}</span>"
        )

    def __repr__(self) -> str:
        return f"<Verdict {self.value!r}>"
