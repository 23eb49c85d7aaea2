"""The text that is shown where the Jupyter server lacks the extensions that draw the panel."""

from __future__ import annotations

import ipywidgets

from perfmon_widgets.panel.layout import Layout


def fallback() -> ipywidgets.HTML:
    """Return the text; panel.css hides it, and comes with a widget that needs these extensions."""
    text = ipywidgets.HTML(
        "The gauges need the extensions of anywidget and bqplot in the environment of the <b>Jupyter "
        "server</b>, which may be another one than that of this kernel. Run <code>pip install anywidget "
        "bqplot</code> there and load this page again.",
        layout=Layout(order="-1"),  # seen above the rest
    )
    text.add_class("perfmon-fallback")
    return text
