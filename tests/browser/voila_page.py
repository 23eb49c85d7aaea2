"""A notebook shown by Voilà, in a real browser."""

from __future__ import annotations

from lab import Notebook
from playwright.sync_api import Locator

# Voilà runs all cells before it shows the page. What is to run while somebody looks is therefore the handler
# of a button, which keeps the kernel as busy as a cell does.
BUTTON = """
import ipywidgets

def run(button):
    button.disabled = True
    try:
        exec({source!r}, globals())
    finally:
        button.disabled = False

button = ipywidgets.Button(description="run cell {index}")
button.on_click(run)
button
"""


def behind_buttons(cells: list[str]) -> list[str]:
    """The first cell as it is, and buttons that run the others."""
    return [
        cells[0],
        *(BUTTON.format(source=cell, index=index) for index, cell in enumerate(cells[1:], start=1)),
    ]


class VoilaNotebook(Notebook):
    """One notebook shown by Voilà; its first cell has been run, each other one has a button."""

    def wait_kernel(self, *, timeout: float = 60) -> None:
        """Wait until the widgets are on the page, for `timeout` seconds at most."""
        self.page.get_by_role("button", name="run cell").first.wait_for(timeout=timeout * 1000)

    def run_all(self) -> None:
        """Start all cells but the first, one after the other, and come back at once."""
        for button in self.page.get_by_role("button", name="run cell").all():
            button.click()

    def run_cell(self, index: int) -> None:
        """Start one cell, counted from 0 and not the first, and come back at once."""
        self._button(index).click()

    def wait_idle(self, *, timeout: float = 60) -> None:
        """Wait until no button's cell is running, for `timeout` seconds at most."""
        self.page.wait_for_function(
            "() => !document.querySelector('.jupyter-button:disabled')", timeout=timeout * 1000
        )

    def is_busy(self) -> bool:
        """Whether a cell is running; the kernel has said so, in the cell's button."""
        return any(button.is_disabled() for button in self.page.get_by_role("button", name="run cell").all())

    def kernel_status(self) -> str:
        """The kernel's status as far as the page shows it: idle or busy."""
        return "busy" if self.is_busy() else "idle"

    def _button(self, index: int) -> Locator:
        return self.page.get_by_role("button", name=f"run cell {index}", exact=True)
