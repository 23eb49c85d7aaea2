"""What the documents say is true: what they name exists, and README.md leads to all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from perfmon_widgets.magic_actions import ACTIONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = (
    "perfmon_widgets/ARCHITECTURE.md",
    "perfmon_widgets/COLUMNS.md",
    "perfmon_widgets/CHANGELOG.md",
    "perfmon_widgets/web/README.md",
    "tests/README.md",
    "tests/benchmarks/README.md",
    "tests/browser/README.md",
)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_readme_leads_to_every_document(name):
    assert (ROOT / name).is_file()
    assert f"]({name})" in README


@pytest.mark.parametrize("name", ["README.md", *DOCUMENTS])
def test_every_file_that_is_named_is_there(name):
    """As a link from the document, or as a path from the top of the repository."""
    document = ROOT / name
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    named = re.findall(r"(?<![\w./-])(?:perfmon_widgets|tests|notebooks|\.ci)/[\w./-]*\w\b(?![*{])", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_module_has_a_line_in_where_to_change_what():
    """A new file without one is a file that nobody finds."""
    text = (ROOT / "perfmon_widgets" / "ARCHITECTURE.md").read_text()
    names = [path.name for path in (ROOT / "perfmon_widgets").rglob("*.py") if path.name != "__init__.py"]
    assert [name for name in names if f"{name}`" not in text] == []


def test_every_form_of_the_magic_is_explained():
    """In README.md or in a notebook."""
    cells = [
        "".join(cell["source"])
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
        for cell in json.loads(path.read_text())["cells"]
    ]
    explained = "\n".join([README, *cells])
    assert len(ACTIONS) > 5
    assert [form for form in ACTIONS if form != "panel" and f"%perfmon {form}" not in explained] == []
    assert "%%perfmon" in explained


def test_both_commands_stand_as_they_are_run():
    assert 'pip install ".[lab]" && jupyter lab notebooks/quickstart.ipynb' in README
    assert 'pip install ".[test]" && pytest' in README
