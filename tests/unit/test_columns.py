"""The columns that there can be: each described for people, once, and listed in COLUMNS.md."""

from __future__ import annotations

import re

import columns
import pytest
from fakes.collectors import FakeMachine, group

from perfmon_widgets.collectors import default_collectors
from perfmon_widgets.collectors.linux.host import HostCollector
from perfmon_widgets.metrics import Metric

ALL = [metric for _, metrics in columns.SECTIONS for metric in metrics]
GPUS = [columns.of_gpu(columns.NVIDIA), columns.of_gpu(columns.AMD)]


@pytest.mark.parametrize("metric", [*ALL, *GPUS[0], *GPUS[1]], ids=lambda metric: metric.name)
def test_each_column_has_a_label_of_its_own_a_sentence_and_a_source(metric: Metric):
    assert metric.help.endswith(".")
    assert metric.source
    assert "_" not in metric.label
    others = (
        [one.label for one in ALL] if metric in ALL else [one.label for one in GPUS[metric not in GPUS[0]]]
    )
    assert others.count(metric.label) == 1


def test_the_roles_are_those_that_tables_and_charts_go_by():
    by_role: dict[str, set[str]] = {}
    for metric in (*ALL, *GPUS[0], *GPUS[1]):
        by_role.setdefault(metric.role, set()).add(metric.name)
    assert by_role["headline"] == {
        "cpu_percent",
        "ram_percent",
        "ram_used_bytes",
        "process_cpu_percent",
        "process_ram_bytes",
        "gpuN/utilization_percent",
        "gpuN/memory_used_bytes",
    }
    assert by_role["part"] == {"coreN/cpu_percent"}
    assert by_role["limit"] == {
        metric for names in by_role.values() for metric in names if "_limit_" in metric
    }


def test_the_list_of_columns_is_what_the_collectors_declare():
    assert columns.FILE.read_text() == columns.document(), (
        "run: python tests/columns.py > perfmon_widgets/COLUMNS.md"
    )


def test_every_column_of_this_machine_is_in_the_list():
    listed = {metric.name for metric in (*ALL, *GPUS[0], *GPUS[1])}
    found = {metric.name for collector in default_collectors() for metric in collector.metrics}
    found = {re.sub(r"^(core|gpu)\d+(/gi\d+ci\d+)?/", r"\1N/", name) for name in found}
    assert found <= listed


def test_a_machine_with_every_limit_has_every_column_of_the_host(tmp_path):
    machine = FakeMachine(tmp_path)
    job = group(
        machine.version_2("/job") / "job",
        memory_max=2**20,
        memory_current=2**19,
        memory_stat="inactive_file 0",
        cpu_max="50000 100000",
        cpu_stat="usage_usec 1\nuser_usec 1\nnr_periods 1\nnr_throttled 0",
    )
    for kind in ("cpu", "io", "memory"):
        (job / f"{kind}.pressure").write_text("some avg10=0 avg60=0 avg300=0 total=1\n")
    made = HostCollector(machine.proc, machine.sys, environment={})
    found = {re.sub(r"^core\d+", "coreN", metric.name) for metric in made.metrics}
    assert found == {metric.name for metric in ALL if metric.group != "process"}
    assert {metric.label for metric in made.metrics} >= {"CPU", "core 1", "RAM in use", "CPU of the machine"}
