"""The line of the panel that says what the previous process of this Jupyter kernel died of."""

from __future__ import annotations

import html

import ipywidgets

from perfmon_widgets.panel.layout import Layout
from perfmon_widgets.views.death import Death


def death_line(death: Death | None) -> list[ipywidgets.HTML]:
    """Return the line, as a list of one widget; an empty list without a death."""
    if death is None:
        return []
    text = f'<span class="perfmon-error" role="status">{html.escape(str(death))}</span>'
    return [ipywidgets.HTML(text, layout=Layout(margin="2px 6px", min_width="0"))]
