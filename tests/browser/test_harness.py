"""The harness sees the page change, and the messages that change it, while a cell is running."""

from __future__ import annotations

import time

SLIDER = """
import threading, time
from ipywidgets import IntSlider

slider = IntSlider(max=10_000)

def count():
    for value in range(1, 41):
        slider.value = value
        time.sleep(0.1)

threading.Thread(target=count, daemon=True).start()
slider
"""
BUSY = """
end = time.monotonic() + 2
while time.monotonic() < end:
    pass
"""


def test_page_changes_while_the_kernel_is_busy(open_notebook):
    before = time.time()
    notebook = open_notebook([SLIDER, BUSY], theme="dark")
    notebook.run_all()
    readout = notebook.cell(0).locator(".widget-readout")
    readout.wait_for()
    seen = []
    while notebook.is_busy():
        seen.append(int(readout.inner_text()))
        time.sleep(0.1)
    assert len(set(seen)) > 2

    frames = notebook.websocket_frames
    # The browser opens a comm of its own, without a state.
    states = {
        frame.comm_id: frame.content["data"].get("state", {})
        for frame in frames
        if frame.msg_type == "comm_open"
    }
    [slider] = [comm for comm, state in states.items() if state.get("_model_name") == "IntSliderModel"]
    updates = [frame for frame in frames if frame.comm_id == slider and frame.msg_type == "comm_msg"]
    assert len({frame.content["data"]["state"]["value"] for frame in updates}) > 2
    assert all(not frame.sent and frame.channel == "iopub" and frame.size > 100 for frame in updates)
    assert all(before < frame.time < time.time() for frame in updates)
    assert [frame.msg_type for frame in frames if frame.sent].count("execute_request") == 2
    assert notebook.console_errors == []
    assert notebook.evaluate("document.body.dataset.jpThemeLight") == "false"
