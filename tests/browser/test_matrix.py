"""Live and steerable while the kernel is busy: each front end with each Jupyter kernel, in a real browser.

`python -m pytest tests/browser/test_matrix.py --write-matrix` tries every pair and writes README.md.
Otherwise each front end runs with the newest ipykernel, and JupyterLab with the older ones, too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matrix
import pytest
from ipykernels import install_kernelspecs, woken
from lab import Notebook, write_notebook
from panel_page import IS_A_LINE, TIMEOUT, logs_of, own_errors, rows_shown, section, spoken, wait_until
from playwright.sync_api import Locator, expect
from servers import REPOSITORY, VOILA, FrontEnd, Server, environment, start_server
from voila_page import VoilaNotebook, behind_buttons

from perfmon_widgets import read_csv

# Milliseconds in which a control takes effect. The goal holds where the table is written, on a machine with
# nothing else to do; otherwise the limit, which is less than the time to the next sample.
GOAL, LIMIT = 1000, 6000

# The panel, and a thread that writes down when what the controls steer has changed in the kernel: whether a
# click was heard while the kernel is busy cannot be asked of the kernel, which is busy.
PANEL = """
import json, pathlib, threading, time
from perfmon_widgets import PerformanceMonitor, PerformancePanel

monitor = PerformanceMonitor(interval=0.5)
monitor.start()
panel = PerformancePanel(monitor)
phase = "none"

def watch():
    last = None
    with open(f"seen-{time.time_ns()}.jsonl", "w", buffering=1) as seen:
        while True:
            now = {
                "phase": phase,
                "interval": monitor.interval,
                "window": panel.advanced._window,
                "logging": monitor.log.running,
                "files": sum(".spans" not in one.name for one in pathlib.Path().glob("perfmon-*.csv")),
            }
            if now != last:
                print(json.dumps({"time": time.time(), **now}), file=seen)
            last = now
            time.sleep(0.01)

threading.Thread(target=watch, daemon=True).start()
panel
"""
# Each cell goes on until the test says so, or for as long as no test takes. It asks seldom: every few
# milliseconds that would keep all other threads from the GIL, see Sampler.
BUSY = """
phase = "{phase}"
import numpy
matrix = numpy.random.rand(800, 800)
end = time.monotonic() + 120
while time.monotonic() < end and not pathlib.Path("stop-{phase}").exists():
    {work}
"""
WORK = {"Python": "for _ in range(3_000_000): pass", "NumPy": "matrix @ matrix", "sleep": "time.sleep(0.2)"}

# The moment of the latest act of a person, by the clock that the kernel has too.
NOTE_ACTS = """
for (const kind of ["click", "change"])
  document.addEventListener(kind, () => { window.acted = Date.now(); }, true);
"""
# The number of points of the longest visible line, as bqplot has drawn it.
POINTS = f"""[...document.querySelectorAll(".bqplot path.line")].filter({IS_A_LINE})
  .reduce((most, path) => Math.max(most, (path.getAttribute("d") ?? "").split(/[ML]/).length - 1), 0)"""
LOG = "(document.querySelector('.perfmon-log')?.textContent ?? '')"

FOUND: dict[tuple[FrontEnd, str], matrix.Found] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the usual pairs of front end and kernel, or all of them where the table is written."""
    if "kernel" in metafunc.fixturenames:
        is_written = metafunc.config.getoption("write_matrix", default=False)
        pairs = matrix.ALL if is_written else matrix.USUAL
        names = [f"{front_end.name}-{kernel}" for front_end, kernel in pairs]
        metafunc.parametrize(("server", "kernel"), pairs, ids=names, indirect=["server"], scope="module")


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of that front end that knows the kernels of all versions."""
    folder = tmp_path_factory.mktemp("server")
    cache = request.config.cache
    assert cache is not None
    with start_server(folder, request.param, environment(request.param, cache)) as server:
        server.kernels = install_kernelspecs(folder / "data", cache, REPOSITORY)
        with woken(folder / "runtime", server.kernels["7.1.0"]):
            yield server


@pytest.fixture
def path(server: Server, kernel: str) -> Path:
    """A notebook for that kernel, which is started at once; Voilà starts one for each visit."""
    cells = [PANEL, *(BUSY.format(phase=phase, work=work) for phase, work in WORK.items())]
    if server.front_end is VOILA:
        cells = behind_buttons(cells)
    path = write_notebook(cells, server.root, server.kernels[kernel])
    if server.front_end is not VOILA:
        server.start_kernel(path, kernel)
    return path


def seen(notebook: Notebook) -> dict[str, Any]:
    """What the latest kernel was like lately, and since when."""
    files = sorted(notebook.path.parent.glob("seen-*.jsonl"))
    lines = files[-1].read_text().splitlines() if files else []
    return dict(json.loads(lines[-1])) if lines else {"phase": "not begun"}


def heard(notebook: Notebook, **wanted: Any) -> float:
    """Milliseconds from the last act until the kernel was like that."""

    def so() -> dict[str, Any] | None:
        now = seen(notebook)
        return now if all(now[key] == value for key, value in wanted.items()) else None

    found = wait_until(notebook, so, f"{wanted} in the kernel")
    return float(found["time"]) * 1000 - float(notebook.evaluate("window.acted"))


def shown(notebook: Notebook, condition: str) -> float:
    """Milliseconds from the last act until a JavaScript expression was true on the page."""
    return float(
        notebook.page.wait_for_function(
            f"() => ({condition}) ? Math.max(Date.now() - window.acted, 1) : 0",
            polling=20,
            timeout=TIMEOUT * 1000,
        ).json_value()
    )


def check_gauges(notebook: Notebook, place: Locator) -> None:
    for _ in range(2):
        before = spoken(place)
        wait_until(notebook, lambda before=before: spoken(place) != before, "a change of the gauges")


def next_phase(notebook: Notebook, last: str, phase: str) -> None:
    """End a busy cell and wait until the kernel is in the next."""
    (notebook.path.parent / f"stop-{last}").touch()
    wait_until(notebook, lambda: seen(notebook)["phase"] == phase, f"the cell with {phase}")
    assert notebook.is_busy()


def steer(notebook: Notebook, place: Locator) -> dict[str, float | None]:
    """Use every control for the first time, while a Python loop runs."""
    found: dict[str, float | None] = {}
    check_gauges(notebook, place)
    found["gauges move"] = None

    # With samples so far apart, nothing of what follows can have waited for the next one.
    place.get_by_label("Sample every").select_option("7 s")
    found["interval"] = heard(notebook, interval=7)

    place.get_by_role("checkbox", name="Log to CSV").click()
    found["*Log to CSV* → file"] = heard(notebook, files=1, logging=True)
    [path] = logs_of(notebook)
    assert shown(notebook, f"{LOG}.startsWith('{path.name}: ')") < LIMIT

    with notebook.page.expect_download() as download:
        place.get_by_role("button", name="Export CSV").click()
    arrived = time.time() * 1000
    found["*Export CSV*"] = arrived - float(notebook.evaluate("window.acted"))
    # The first reading of a counter is no number yet, nor is one that a cell's start made within one tick of
    # the OS kernel's clock.
    numbers = read_csv(download.value.path())["cpu_percent"].count()
    assert numbers >= 2

    section(place, "CPU").click()
    found["section opened"] = shown(notebook, f"{POINTS} >= {numbers}")

    place.get_by_label("Show last").select_option("5 min")
    found["chart window"] = heard(notebook, window=300)

    place.get_by_label("Sample every").select_option("1 s")
    heard(notebook, interval=1)
    written = len(read_csv(path))
    wait_until(notebook, lambda: rows_shown(place) > written + 1, "as many rows as the file has")
    assert rows_shown(place) <= len(read_csv(path))
    assert seen(notebook)["phase"] == "Python"
    assert notebook.is_busy()
    return found


def load_again(notebook: Notebook, server: Server) -> None:
    """The page loaded again has the panel, live and heard. Voilà runs the notebook anew for it."""
    if server.front_end is not VOILA:
        notebook.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    notebook.page.reload()
    notebook.wait_kernel()
    place = notebook.page.locator(".perfmon-panel")
    expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
    check_gauges(notebook, place)
    checkbox = place.get_by_role("checkbox", name="Log to CSV")
    was = seen(notebook)["logging"]
    assert was is (server.front_end is not VOILA)
    expect(checkbox).to_be_checked(checked=was)
    checkbox.click()
    heard(notebook, logging=not was)


def test_live_and_steerable_while_the_kernel_is_busy(request, server, path, kernel, chromium, opened):
    page_object = VoilaNotebook if server.front_end is VOILA else Notebook
    # JupyterLab 4.3 hides a cell that is out of sight, as the first one is when it has scrolled to the last.
    context = chromium.new_context(viewport={"width": 1280, "height": 1600})
    notebook = page_object(context, server, path)
    opened.append(notebook)
    notebook.page.add_init_script(NOTE_ACTS)
    notebook.open()
    notebook.run_all()
    place = notebook.page.locator(".perfmon-panel")
    expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
    wait_until(notebook, lambda: seen(notebook)["phase"] == "Python", "the cell with a Python loop")

    found = steer(notebook, place)
    limit = GOAL if request.config.getoption("write_matrix", default=False) else LIMIT
    slow = {name: value for name, value in found.items() if value is not None and value > limit}
    assert slow == {}

    next_phase(notebook, "Python", "NumPy")
    check_gauges(notebook, place)
    place.get_by_role("checkbox", name="Log to CSV").click()
    assert heard(notebook, logging=False) < LIMIT
    assert shown(notebook, f"{LOG}.endsWith(', closed')") < LIMIT

    next_phase(notebook, "NumPy", "sleep")
    check_gauges(notebook, place)
    place.get_by_role("checkbox", name="Log to CSV").click()
    assert heard(notebook, logging=True, files=2) < LIMIT

    assert notebook.is_busy()
    (notebook.path.parent / "stop-sleep").touch()
    notebook.wait_idle()
    load_again(notebook, server)
    found["page loaded again"] = None
    assert own_errors(notebook) == []
    FOUND[server.front_end, kernel] = found
    print(found)  # with pytest -rP


def test_the_table_has_every_pair_and_every_behaviour(request):
    if request.config.getoption("write_matrix", default=False):
        packages = {
            "JupyterLab": "jupyterlab",
            "Notebook": "notebook",
            "Voilà": "voila",
            "ipykernel": "ipykernel",
        }
        matrix.write(FOUND, {name: version(package) for name, package in packages.items()})
    behaviours, combinations = matrix.written()
    assert behaviours == list(matrix.BEHAVIOURS)
    assert combinations == {(front_end.name, matrix.kernel_name(kernel)) for front_end, kernel in matrix.ALL}
