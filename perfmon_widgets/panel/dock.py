"""Dock: the place of a panel beside the notebook, a tab of the JupyterLab extension ``sidecar``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from perfmon_widgets.jupyter import kernel
from perfmon_widgets.panel.layout import Layout
from perfmon_widgets.panel.link import script
from perfmon_widgets.panel.parts import parts_of

if TYPE_CHECKING:
    from sidecar import Sidecar

# Seen where the output of the cell is: one of the two sentences. Only the browser knows which.
_WORDS = (
    '<span class="perfmon-beside">The panel is beside the notebook.</span>'
    '<span class="perfmon-not-beside">Not docked: <code>panel.dock()</code> puts the panel beside the '
    "notebook in JupyterLab, if the package <code>sidecar</code> is installed where the Jupyter server runs."
    "</span>"
)


class Dock:
    """Opens and closes the tab of one panel.

    This process cannot know whether a page is able to show the tab. So the panel is an output of the cell as
    well, which a style sheet reduces to one line on a page that has the tab.
    """

    def __init__(self) -> None:
        self._tab: Sidecar | None = None  # the newest, which may be closed

    def open(self, panel: ipywidgets.VBox) -> None:
        """Show the panel in a new tab, and close the one that was opened for it before.

        Raises RuntimeError outside a Jupyter kernel, and ModuleNotFoundError without the package sidecar.
        """
        if not kernel.is_jupyter_kernel():
            raise RuntimeError("a panel is docked in JupyterLab, but this process is not a Jupyter kernel")
        try:
            from sidecar import Sidecar  # noqa: PLC0415 - optional, comes with the extra "lab"
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "to dock a panel, pip install sidecar in the environments of this kernel and of the Jupyter "
                "server, then load the page again"
            ) from None
        if self._tab is None:
            own = f"perfmon-panel-{panel.model_id}"
            panel.add_class(own)
            style = f"<style>{script('dock.css').replace('perfmon-own', own)}</style>"
            note = ipywidgets.HTML(style + _WORDS, layout=Layout())
            note.add_class("perfmon-docking")
            panel.children = (*panel.children, note)
        self.close()
        self._tab = Sidecar(title="Performance", anchor="right")
        self._tab.append_display_data(panel)

    def close(self) -> None:
        """Close the tab, if there is one."""
        if self._tab is not None:
            for widget in parts_of(self._tab):
                widget.close()
