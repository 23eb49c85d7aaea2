"""The panel is light on the network: what a closed laptop or a slow line must not be flooded with."""

from __future__ import annotations

from load import PANEL, measure, open_section
from panel_page import TIMEOUT
from playwright.sync_api import expect

KILOBYTE = 1024


def test_a_tick_is_one_small_message_and_one_per_open_chart(open_notebook):
    notebook = open_notebook([PANEL])
    notebook.run_cell(0)
    expect(notebook.cell(0).get_by_role("meter")).to_have_count(5, timeout=TIMEOUT * 1000)
    notebook.wait_idle()
    gauges = measure(notebook, 4)
    print(gauges)  # with pytest -rP
    # All gauges are one message. The line of plain words is another, every five seconds at most.
    assert gauges.most_messages <= 2
    assert gauges.messages <= 1.5
    assert gauges.most_bytes <= 2 * KILOBYTE
    assert gauges.bytes <= 1.5 * KILOBYTE
    open_section(notebook, "GPU")
    charts = measure(notebook, 4)
    print(charts)
    # Besides the gauges and five charts there are the table below them, and where the window now lies over
    # the cells that ran: 9. The line of plain words may come in any tick, too, and twice a minute the labels
    # of the times below the charts and then the times (bqplot wants two messages).
    assert charts.most_messages <= 9 + 1 + 2
    assert charts.most_bytes <= 30 * KILOBYTE
