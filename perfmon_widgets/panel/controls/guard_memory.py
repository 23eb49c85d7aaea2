"""The switch of the memory guard."""

from __future__ import annotations

import html

import ipywidgets

from perfmon_widgets.core.guard import Guard
from perfmon_widgets.panel.controls import Control
from perfmon_widgets.panel.layout import Layout
from perfmon_widgets.views.local_time import format_clock

_TOOLTIP = "Let an allocation fail before memory is full, so that the kernel lives"


def guard_memory(guard: Guard) -> Control:
    """Return a checkbox that starts and stops the guard, with what it did last as a note."""
    box = ipywidgets.Checkbox(
        description="Guard memory",
        indent=False,
        tooltip=guard.unavailable or _TOOLTIP,
        disabled=bool(guard.unavailable),
        layout=Layout(width="auto"),
    )
    note = ipywidgets.HTML(layout=Layout(min_width="0"))
    reason = ""

    def act(wanted: bool) -> None:
        nonlocal reason
        reason = ""
        if wanted == guard.running:
            return
        try:
            guard.start() if wanted else guard.stop()
        except RuntimeError as error:
            reason = str(error)
            box.value = False
            box.send_state("value")  # the browser has ticked its own box

    def show() -> None:
        box.value = guard.running
        note.value = state_of(guard, reason)

    return Control("Guard memory", box, "value", act, show, note)


def state_of(guard: Guard, reason: str = "") -> str:
    """Return what the guard did last as HTML, else that it is on; ``reason``: why it could not be started."""
    if reason or guard.error:
        return f'<span class="perfmon-error" role="alert">{html.escape(reason or guard.error)}</span>'
    if guard.interventions:
        last = guard.interventions[-1]
        at = format_clock(last.time)
        return f'<span class="perfmon-error" role="alert">{at} {html.escape(str(last))}</span>'
    words = guard.state if guard.running else guard.unavailable
    return f'<span class="perfmon-log">{html.escape(words)}</span>' if words else ""
