"""The README's table of front ends, Jupyter kernels and behaviours, as a run of test_matrix.py found them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone

from ipykernels import NEWEST, OLDER
from servers import LAB, LAB_4_3, NOTEBOOK, REPOSITORY, VOILA, FrontEnd

README = REPOSITORY / "README.md"
BEGIN, END = "<!-- matrix: written by a test, see below -->\n", "<!-- end of matrix -->\n"

FRONT_ENDS = (LAB, LAB_4_3, NOTEBOOK, VOILA)
KERNELS = (*OLDER, NEWEST)
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
        for front_end in FRONT_ENDS
        for kernel in KERNELS
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


def kernel_name(kernel: str) -> str:
    """What the README calls a version of ipykernel: the newest one is another one next month."""
    return "newest" if kernel == NEWEST else kernel


def write(found: Mapping[tuple[FrontEnd, str], Found], versions: Mapping[str, str]) -> None:
    """Put the table and the versions of that run in the place of the README's last ones."""
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    caption = f"\nMeasured on {datetime.now(timezone.utc):%Y-%m-%d} with {named}.\n"
    README.write_text(before + BEGIN + "\n" + table(found) + caption + END + after)


def written() -> tuple[list[str], set[tuple[str, str]]]:
    """The behaviours and the combinations of front end and kernel that the README has now."""
    lines = re.findall(
        r"^\| (.*) \|$", README.read_text().partition(BEGIN)[2].partition(END)[0], re.MULTILINE
    )
    head, _, *rows = [line.split(" | ") for line in lines] or [[], []]
    return head[2:], {(row[0], row[1]) for row in rows}


def _cell(value: float | None) -> str:
    return "yes" if value is None else f"{value:.0f} ms"
