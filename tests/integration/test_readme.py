"""What README.md tells is true: every metric stands in its table, every file it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import perfmon_widgets
from perfmon_widgets.collectors.amd.collector import METRICS as AMD
from perfmon_widgets.collectors.linux.host import METRICS as HOST
from perfmon_widgets.collectors.linux.host import OPTIONAL_METRICS as HOST_TOO
from perfmon_widgets.collectors.linux.process import METRICS as PROCESS
from perfmon_widgets.collectors.nvidia.collector import METRICS as NVIDIA
from perfmon_widgets.magic_actions import ACTIONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COLUMNS = [
    "coreN/cpu_percent",
    *(metric.name for metric in (*HOST, *HOST_TOO, *PROCESS)),
    *dict.fromkeys(f"gpuN/{metric.name}" for metric in (*NVIDIA, *AMD)),
]


@pytest.mark.parametrize("column", COLUMNS)
def test_every_metric_is_in_the_table(column):
    assert f"\n| `{column}` |" in README


def test_the_table_has_no_metric_that_does_not_exist():
    table = README.partition("## What is measured")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)) == set(COLUMNS)


def test_every_default_column_on_this_machine_is_in_the_table():
    monitor = perfmon_widgets.PerformanceMonitor()
    names = {re.sub(r"^(core|gpu)\d+/", r"\1N/", metric.name) for metric in monitor.metrics}
    assert names <= set(COLUMNS)


def test_every_file_that_is_named_is_there():
    named = re.findall(r"[\w./]*/[\w/]+\.(?:py|json|js|css|ipynb|png)\b", README)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_module_has_a_line_in_where_to_change_what():
    """A new file without one is a file that nobody finds."""
    section = README.partition("## Where to change what")[2].partition("\n## ")[0]
    package = ROOT / "perfmon_widgets"
    names = [path.name for path in package.rglob("*.py") if path.name != "__init__.py"]
    assert [name for name in names if f"{name}`" not in section] == []


def test_every_form_of_the_magic_is_in_its_table():
    table = README.partition("### Magics")[2].partition("\n### ")[0]
    assert len(ACTIONS) > 5
    assert [form for form in ACTIONS if form != "panel" and f"`%perfmon {form}" not in table] == []
    assert "`%%perfmon`" in table


def test_both_commands_stand_as_they_are_run():
    assert 'pip install ".[lab]" && jupyter lab notebooks/quickstart.ipynb' in README
    assert 'pip install ".[test]" && pytest' in README
