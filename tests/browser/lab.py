"""A notebook opened in JupyterLab or Notebook 7 by a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nbformat
from frames import Frame, Traffic
from playwright.sync_api import BrowserContext, CDPSession, Locator, Page
from servers import Server

OUTPUT = Path(__file__).parent / "output"

# The open notebook, or nothing while JupyterLab is still building its page.
PANEL = """
const panel = () => {
  const widget = window.jupyterapp?.shell?.currentWidget;
  return widget?.content?.widgets && widget.sessionContext ? widget : null;
};
"""

# A request that is still running, or a cell that still shows [*]. The kernel's own status is no
# answer: JupyterLab calls a kernel idle as soon as it has handled a click next to the running cell.
IS_BUSY = f"""() => {{
  {PANEL}
  const waiting = cell => cell.node.querySelector('.jp-InputPrompt')?.textContent.includes('*');
  return (window.harnessRuns ?? 0) > 0 || (panel()?.content.widgets.some(waiting) ?? false);
}}"""

KERNEL_STATUS = f"() => {{ {PANEL} return panel()?.sessionContext.session?.kernel?.status ?? 'none'; }}"

# What each cell shows below its code, however far down the page it is.
SHOWN = """() => [...document.querySelectorAll('.jp-Cell')].map(cell => [
  cell.querySelector('.jp-InputPrompt')?.textContent ?? '',
  cell.querySelector('.jp-Cell-outputArea')?.innerText.replace(/\\s+/g, ' ').slice(-300) ?? '',
  cell.checkVisibility() ? '' : '(hidden)',
].join(' '))"""

# Not awaited, because the test looks at the page while the cells run.
RUN = f"""([command, index]) => {{
  {PANEL}
  const content = panel().content;
  if (index !== null) {{
    content.deselectAll();
    content.activeCellIndex = index;
  }}
  window.harnessRuns = (window.harnessRuns ?? 0) + 1;
  const done = () => {{ window.harnessRuns -= 1; }};
  window.jupyterapp.commands.execute(command).then(done, done);
}}"""


class Notebook:
    """One notebook open in JupyterLab or Notebook 7, with its kernel."""

    def __init__(self, context: BrowserContext, server: Server, path: Path) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.path = path
        self.server = server
        self._traffic = Traffic(self.page)
        self._protocol: CDPSession | None = None
        self._is_traced = False

    def open(self, address: str | None = None) -> None:
        """Load the page and wait for the kernel, and write down what happens from then on."""
        self.load(address)
        # Traced from here on, because the load itself would take 0.7 s longer, and without a film of the
        # page, which would keep the software renderer busy.
        self.context.tracing.start(snapshots=True, screenshots=False)
        self._is_traced = True

    def load(self, address: str | None = None) -> None:
        """Load the page, from that address of the server if it has another one, and wait for the kernel."""
        place = self.path.relative_to(self.server.root).as_posix()
        self.page.goto(f"{address or self.server.url}/{self.server.front_end.address.format(place)}")
        self.wait_kernel()

    def wait_kernel(self, *, timeout: float = 60) -> None:
        """Wait until the notebook is on the page and its kernel answers, for `timeout` seconds at most."""
        self.page.wait_for_function(
            f"() => ({KERNEL_STATUS})() === 'idle'", polling=100, timeout=timeout * 1000
        )

    def run_all(self) -> None:
        """Start all cells, and come back at once."""
        self.page.evaluate(RUN, ["notebook:run-all-cells", None])

    def run_cell(self, index: int) -> None:
        """Start one cell, counted from 0, and come back at once."""
        self.page.evaluate(RUN, ["notebook:run-cell", index])

    def wait_idle(self, *, timeout: float = 60) -> None:
        """Wait until no cell is running or queued, for `timeout` seconds at most."""
        self.page.wait_for_function(f"() => !({IS_BUSY})()", polling=50, timeout=timeout * 1000)

    def is_busy(self) -> bool:
        """Whether a cell is running or queued."""
        return bool(self.page.evaluate(IS_BUSY))

    def kernel_status(self) -> str:
        """The kernel's status as JupyterLab knows it: idle, busy, unknown, ..., or none."""
        return str(self.page.evaluate(KERNEL_STATUS))

    def evaluate(self, expression: str, argument: Any = None) -> Any:
        """What a JavaScript expression or function gives on the page."""
        return self.page.evaluate(expression, argument)

    def cell(self, index: int) -> Locator:
        """The place of one cell on the page, its output included."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def metrics(self) -> dict[str, float]:
        """What Chromium counts of the page, without its rubbish: Nodes, JSHeapUsedSize (bytes), …."""
        if self._protocol is None:
            self._protocol = self.context.new_cdp_session(self.page)
            self._protocol.send("Performance.enable")
        # Once leaves what was in use a moment ago: a page with 26,000 nodes then has up to 47,000.
        for _ in range(2):
            self._protocol.send("HeapProfiler.collectGarbage")
        found = self._protocol.send("Performance.getMetrics")["metrics"]
        return {each["name"]: each["value"] for each in found}

    def screenshot(self, name: str) -> Path:
        """The path of a picture of the page, taken now."""
        path = OUTPUT / f"{name}.png"
        OUTPUT.mkdir(exist_ok=True)
        self.page.screenshot(path=path)
        return path

    def keep_evidence(self, name: str) -> None:
        """Save a picture and Playwright's trace, print their paths and what can be said in a log.

        That is what the cells show and the console's errors.
        """
        if not self.page.is_closed():
            print(f"kept {self.screenshot(name)}")
            print(f"the kernel is {self.kernel_status()}, the cells:", *self.evaluate(SHOWN), sep="\n")
        if self._is_traced:
            trace = OUTPUT / f"{name}.zip"
            self.context.tracing.stop(path=trace)
            print(f"kept {trace}: see it with playwright show-trace")
        print(*dict.fromkeys(self.console_errors), sep="\n")

    @property
    def websocket_frames(self) -> list[Frame]:
        """Every kernel message so far, in both directions, oldest first."""
        return self._traffic.frames

    @property
    def console_errors(self) -> list[str]:
        """Every error so far on the page's console, and every exception nobody caught there."""
        return self._traffic.console_errors


def boxes(place: Locator, selector: str) -> list[dict[str, float]]:
    """Where the visible elements stand, in pixels, all at one moment: a line that appears moves them."""
    found: list[dict[str, float]] = place.locator(selector).evaluate_all("""all => all
      .map(each => each.getBoundingClientRect().toJSON())
      .filter(box => box.width && box.height)""")
    return found


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two boxes share more than a pixel's width and height."""
    return all(
        one[side] < other[side] + other[size] - 1 and other[side] < one[side] + one[size] - 1
        for side, size in (("x", "width"), ("y", "height"))
    )


def write_notebook(cells: list[str] | Path, root: Path, kernel: str = "python3") -> Path:
    """The path of a notebook with those code cells, or of a copy of one, in its own folder below `root`."""
    folder = root / f"folder-{len(list(root.glob('folder-*')))}"
    folder.mkdir()
    if isinstance(cells, Path):
        return Path(shutil.copy(cells, folder))
    path = folder / "notebook.ipynb"
    # Named here, or JupyterLab would ask which kernel to start.
    metadata = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells], metadata=metadata
    )
    nbformat.write(notebook, path)
    return path
