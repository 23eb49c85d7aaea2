"""The table in README.md in this folder: front ends, Jupyter kernels and what test_matrix.py found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from ipykernels import NEWEST, OLDER
from servers import LAB, LAB_4_3, NOTEBOOK, VOILA, FrontEnd

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- matrix: written by a test, see below -->\n", "<!-- end of matrix -->\n"

FRONT_ENDS = (LAB, LAB_4_3, NOTEBOOK, VOILA)
KERNELS = (*OLDER, NEWEST)
ALL = [(front_end, kernel) for front_end in FRONT_ENDS for kernel in KERNELS]
USUAL = [(front_end, kernel) for front_end, kernel in ALL if front_end is LAB or kernel == NEWEST]
"""What each change is tested with: every front end and every kernel, but not every pair of them."""
BEHAVIOURS = (
    "gauges move",
    "*Log to CSV* → file",
    "interval",
    "chart window",
    "section opened",
    "*Export CSV*",
    "page loaded again",
)

# Milliseconds from the click on, or nothing where a behaviour is only true.
Found = Mapping[str, float | None]


def table(found: Mapping[tuple[FrontEnd, str], Found]) -> str:
    """The table in Markdown; KeyError where the run left out a combination or a behaviour."""
    head = ["front end", "ipykernel", *BEHAVIOURS]
    rows = [
        [front_end.name, kernel_name(kernel), *(_cell(found[front_end, kernel][each]) for each in BEHAVIOURS)]
        for front_end, kernel in ALL
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


def kernel_name(kernel: str) -> str:
    """The name of a version of ipykernel in the table. The newest one changes from month to month."""
    return "newest" if kernel == NEWEST else kernel


def write(found: Mapping[tuple[FrontEnd, str], Found], versions: Mapping[str, str]) -> None:
    """Replace the table and the versions in README.md."""
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    caption = f"\nMeasured on {datetime.now(timezone.utc):%Y-%m-%d} with {named}.\n"
    README.write_text(before + BEGIN + "\n" + table(found) + caption + END + after)


def written() -> tuple[list[str], set[tuple[str, str]]]:
    """The behaviours and the pairs of front end and kernel that README.md has now."""
    lines = re.findall(
        r"^\| (.*) \|$", README.read_text().partition(BEGIN)[2].partition(END)[0], re.MULTILINE
    )
    head, _, *rows = [line.split(" | ") for line in lines] or [[], []]
    return head[2:], {(row[0], row[1]) for row in rows}


def _cell(value: float | None) -> str:
    return "yes" if value is None else f"{value:.0f} ms"
