"""What is stored in the example notebooks: pictures, and nothing of the machine they were executed on.

That they run, and print what is stored, is tested by nbval.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LONGEST = 25  # cells: each notebook is about one question

# A folder of some machine, a token of `secrets`, and what an execution adds to the metadata.
MACHINE = re.compile(r"(/(home|root|Users|tmp|work|opt|usr|mnt|var)/\w|\b[A-Z]:\\\\|site-packages)")
TOKEN = re.compile(r"(?<![\w/+=-])(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{43}(?![\w/+=-])")


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def outputs(path: Path) -> list[dict[str, Any]]:
    return [output for cell in cells(path, "code") for output in cell["outputs"]]


def text(output: dict[str, Any]) -> str:
    """Everything in an output that a person could read."""
    return json.dumps(output.get("data", output), ensure_ascii=False)


def test_they_are_all_here_and_listed_in_the_readme():
    assert len(NOTEBOOKS) >= 5
    readme = (ROOT / "README.md").read_text()
    assert [path.name for path in NOTEBOOKS if f"(notebooks/{path.name})" not in readme] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_it_is_short_and_begins_with_its_title(self, path):
        assert len(json.loads(path.read_text())["cells"]) <= LONGEST
        assert cells(path, "markdown")[0]["source"][0].startswith("# ")

    def test_every_cell_was_executed_in_order_and_none_failed(self, path):
        counts = [cell["execution_count"] for cell in cells(path, "code")]
        assert counts == list(range(1, len(counts) + 1))
        assert [output for output in outputs(path) if output["output_type"] == "error"] == []
        assert [text(output) for output in outputs(path) if output.get("name") == "stderr"] == []

    def test_it_says_nothing_of_the_machine(self, path):
        assert [found for output in outputs(path) for found in MACHINE.findall(text(output))] == []
        assert [found for output in outputs(path) for found in TOKEN.findall(text(output))] == []

    def test_its_metadata_is_the_same_after_each_execution(self, path):
        content = json.loads(path.read_text())
        assert content["metadata"] == {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        for cell in content["cells"]:
            assert cell["metadata"] in ({}, {"tags": ["nbval-ignore-output"]})
        assert [cell["id"] for cell in content["cells"]] == [
            f"{path.stem.replace('_', '-')}-{number}" for number in range(len(content["cells"]))
        ]

    def test_whoever_reads_it_on_a_static_page_sees_a_picture(self, path):
        assert any("data:image/svg+xml;base64" in text(output) for output in outputs(path))

    def test_what_it_reads_is_shipped_with_it(self, path):
        for cell in cells(path, "code"):
            for name in re.findall(r"data/[\w.]+", "".join(cell["source"])):
                assert (FOLDER / name).exists(), name


def test_a_folder_and_a_token_would_be_found():
    assert MACHINE.search("every row goes to /home/ada/run.csv")
    assert MACHINE.search("/usr/lib/python3/site-packages/x.py")
    assert not MACHINE.search("http://127.0.0.1:8888/api/performance/current")
    assert TOKEN.search("'Qm3_xV0f1k-2Zr8JtL5uYw9aBcDeFgHiJkLmNoPqRsT'")
    assert not TOKEN.search("process_write_bytes_per_second_and_more_of_such")
