"""Axes, labels and margins: what all bqplot figures have in common."""

from __future__ import annotations

import math
from typing import Any

import bqplot

from perfmon_widgets.views.axis import Axis

_INK = {"fill": "var(--jp-content-font-color1, currentColor)"}


def layout_of_figures() -> dict[str, Any]:
    """The traits that all figures of the panel share."""
    return {
        "animation_duration": 0,  # an animation costs the browser four times as much
        "padding_x": 0,
        "padding_y": 0,
        "fig_margin": {"top": 17, "bottom": 20, "left": 40, "right": 25},
        "background_style": {"fill": "transparent"},
        "title_style": {**_INK, "font-size": "12px"},
        "display_toolbar": False,
        "layout": {"height": "165px", "width": "auto", "flex": "1 1 230px", "min_width": "0"},
    }


def make_axis(scale: bqplot.Scale, side: str, **more: Any) -> bqplot.Axis:
    """An axis at the ``bottom`` or on the ``left`` of a figure; ``more`` are further traits."""
    return bqplot.Axis(
        scale=scale,
        side=side,
        grid_color="var(--jp-border-color2, rgba(128, 128, 128, 0.3))",
        tick_style={**_INK, "font-size": "10px"},
        **more,
    )


def make_labels(**where: Any) -> bqplot.Label:
    """Words in a figure; each begins a little to the right of its place."""
    return bqplot.Label(
        **where,
        colors=["var(--jp-content-font-color1, #757575)"],
        default_size=10.0,
        font_weight="normal",
        align="start",
        x_offset=2,
    )


def show_values(drawn: bqplot.Axis, axis: Axis) -> None:
    """Write the numbers of a figure's axis, with as few decimals as every one of them needs."""
    step = (axis.top - axis.bottom) / 4
    decimals = next(number for number in range(400) if math.isclose(round(step, number), step))
    # The format before the ticks: bqplot draws new ticks a moment later, with the format that it had.
    drawn.tick_format = "~s" if axis.top >= 1e5 else f".{decimals}f" if decimals < 5 else ".1e"
    drawn.tick_values = axis.ticks
