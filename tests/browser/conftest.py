"""Fixtures that open a notebook in JupyterLab, in a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from lab import LabServer, Notebook, Theme, start_lab, write_notebook
from playwright.sync_api import Browser, sync_playwright

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
def lab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A JupyterLab server on this machine, which knows nothing of the developer's own settings."""
    with start_lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


# One browser for each test file, at a cost of 0.9 s, rather than one for the session: until it is stopped,
# Playwright's event loop counts as running in this thread, so no later test could call asyncio.run().
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(CHROMIUM_NAMES)} is on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_notebook(
    request: pytest.FixtureRequest, chromium: Browser, lab_server: LabServer
) -> Iterator[OpenNotebook]:
    """A function that opens code cells, or a copy of a notebook file, in a page and a kernel of their own."""
    opened: list[Notebook] = []

    def open_one(
        cells: list[str] | Path,
        *,
        theme: Theme = "light",
        timezone: str | None = None,
        viewport: tuple[int, int] = (1280, 800),
    ) -> Notebook:
        lab_server.set_theme(theme)
        width, height = viewport
        context = chromium.new_context(timezone_id=timezone, viewport={"width": width, "height": height})
        notebook = Notebook(context, lab_server, write_notebook(cells, lab_server.root))
        opened.append(notebook)
        notebook.open()
        return notebook

    yield open_one
    try:
        for number, notebook in enumerate(opened):
            if request.node.stash.get(CALL_FAILED, False):
                notebook.keep_evidence(re.sub(r"[^\w.-]+", "-", f"failed-{request.node.name}-{number}"))
            notebook.context.close()
    finally:
        lab_server.reset()
