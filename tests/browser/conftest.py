"""Fixtures that open notebooks in a real browser, by the front ends of servers.py."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from lab import Notebook, write_notebook
from playwright.sync_api import Browser, Playwright, sync_playwright
from servers import Server, Theme, start_server

CHROMIUM_NAMES = ["chromium", "chromium-browser", "google-chrome"]
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-default-apps",
    "--metrics-recording-only",
]

OpenNotebook = Callable[..., Notebook]
CALL_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --write-matrix."""
    parser.addoption(
        "--write-matrix", action="store_true", help="run test_matrix.py with every pair and write its table"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Leave word for open_notebook whether the test failed."""
    report = yield
    if report.when == "call":
        item.stash[CALL_FAILED] = report.failed
    return report


# One server for each test file, since it is a child of this process, whose own use other tests measure.
@pytest.fixture(scope="module")
def lab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A JupyterLab server on this machine, which knows nothing of the developer's own settings."""
    with start_server(tmp_path_factory.mktemp("lab")) as server:
        yield server


def launch(playwright: Playwright) -> Browser:
    """A browser without a window; FileNotFoundError where none is installed."""
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        raise FileNotFoundError(f"no browser: none of {', '.join(CHROMIUM_NAMES)} is on the PATH")
    return playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)


# One browser for each test file, at a cost of 0.9 s, rather than one for the session: until it is stopped,
# Playwright's event loop counts as running in this thread, so no later test could call asyncio.run().
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        try:
            browser = launch(playwright)
        except FileNotFoundError as missing:
            pytest.skip(str(missing))
        yield browser
        browser.close()


@pytest.fixture
def fresh_lab(lab_server: Server) -> Iterator[Server]:
    """The JupyterLab server, whose kernels are ended and whose files are deleted after the test."""
    yield lab_server
    lab_server.reset()


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Iterator[list[Notebook]]:
    """The notebooks to be closed when the test ends; of those of a failed test, evidence is kept."""
    notebooks: list[Notebook] = []
    yield notebooks
    for number, notebook in enumerate(notebooks):
        if request.node.stash.get(CALL_FAILED, False):
            notebook.keep_evidence(re.sub(r"[^\w.-]+", "-", f"failed-{request.node.name}-{number}"))
        notebook.context.close()


@pytest.fixture
def open_notebook(chromium: Browser, fresh_lab: Server, opened: list[Notebook]) -> OpenNotebook:
    """A function that opens code cells, or a copy of a notebook file, in a page and a kernel of their own."""

    def open_one(
        cells: list[str] | Path,
        *,
        theme: Theme = "light",
        timezone: str | None = None,
        viewport: tuple[int, int] = (1280, 800),
        address: str | None = None,
    ) -> Notebook:
        fresh_lab.set_theme(theme)
        width, height = viewport
        context = chromium.new_context(timezone_id=timezone, viewport={"width": width, "height": height})
        notebook = Notebook(context, fresh_lab, write_notebook(cells, fresh_lab.root))
        opened.append(notebook)
        notebook.open(address)
        return notebook

    return open_one
