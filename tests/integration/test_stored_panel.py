"""What a notebook that is executed without a browser stores of a panel, wherever it stands."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from traitlets import Unicode

BEGIN = """
import ipywidgets
from IPython.display import display
from perfmon_widgets import PerformanceMonitor, PerformancePanel
monitor = PerformanceMonitor()
monitor.sample()
"""
# Each shows a panel of its own.
WAYS = (
    "panel",
    "display(panel)",
    "ipywidgets.VBox([ipywidgets.HTML('mine'), panel])",
    "display(ipywidgets.Tab([panel]))",
    "ipywidgets.VBox([panel.gauges, panel.advanced])",
)


def executed(*cells: str, **how: Any) -> Any:
    """A notebook with the outputs of these cells, and of one before them."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in (BEGIN, *cells)])
    NotebookClient(notebook, kernel_name="python3", timeout=300, **how).execute()
    return notebook


def tables(notebook: Any) -> list[int]:
    """How many tables of last values each cell has."""
    return [
        sum("perfmon-snapshot" in output.get("data", {}).get("text/html", "") for output in cell.outputs)
        for cell in notebook.cells
    ]


def test_what_is_stored_is_that_of_the_last_moment():
    shown = [f"panel = PerformancePanel(monitor)\n{way}" for way in WAYS]
    notebook = executed(*shown, "monitor.sample(); None", "monitor.sample().time")
    assert tables(notebook) == [0, *[1 for _ in WAYS], 0, 0]
    newest = float(notebook.cells[-1].outputs[0].data["text/plain"])
    state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    readings = [model["state"]["readings"] for model in state.values() if "readings" in model["state"]]
    assert [each["time"] for each in readings] == [newest] * len(WAYS)
    assert all("value" in each["gauges"]["CPU"] for each in readings)


def test_it_has_a_link_to_the_live_page_where_the_server_has_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def links() -> list[str]:
        # A Jupyter server names the file after the id of the kernel.
        class Manager(AsyncKernelManager):
            connection_file = Unicode(str(tmp_path / "kernel-0a-1b.json"))

        # By its class, since nbclient ends what it has made, with all its sockets.
        [_, cell] = executed("panel = PerformancePanel(monitor)\npanel", kernel_manager_class=Manager).cells
        stored = "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
        assert "<table>" in stored
        return re.findall(r'href="([^"]*)"', stored)

    monkeypatch.delenv("PERFMON_WIDGETS_PAGE", raising=False)
    assert links() == []
    # What the extension of a Jupyter server does in the process that starts the kernels.
    monkeypatch.setenv("PERFMON_WIDGETS_PAGE", f"{os.getpid()} /user/me/perfmon")
    assert links() == ["/user/me/perfmon?kernel_id=0a-1b"]
    # What such a server writes, where it is not one of JupyterHub.
    known = {"url": "http://localhost:8888/user/me/", "base_url": "/user/me/"}
    (tmp_path / f"jpserver-{os.getpid()}.json").write_text(json.dumps(known))
    whole = "http://localhost:8888/user/me/perfmon?kernel_id=0a-1b"
    assert links() == ["/user/me/perfmon?kernel_id=0a-1b", whole]


def test_formatting_a_panel_adds_no_output():
    notebook = executed(
        "panel = PerformancePanel(monitor)\nhandle = display(panel, display_id=True)",
        "for _ in range(50): handle.update(panel)",
        "out = ipywidgets.Output(); out.append_display_data(panel)",
        "get_ipython().display_formatter.format(panel); None",
        "out",
    )
    assert tables(notebook) == [0, 1, 0, 0, 0, 1]
    assert [len(cell.outputs) for cell in notebook.cells[2:5]] == [0, 0, 0]


def test_a_notebook_with_one_panel_is_stored_in_less_than_100_kb():
    """Issue 17: it took 200 kB, 109 kB of it scripts that were stored ten times over."""
    notebook = executed(
        "for _ in range(300): monitor.sample()",
        "panel = PerformancePanel(monitor)\npanel",
        "monitor.sample(); None",
    )
    assert tables(notebook)[2] == 1
    size = len(nbformat.writes(notebook))
    assert size < 100_000
    state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    scripts = [model["state"].get(name, "") for model in state for name in ("_esm", "_css", "gauge")]
    assert 10_000 < sum(map(len, scripts)) < 36_000
