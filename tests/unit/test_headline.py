"""Which columns come first, in every face."""

from __future__ import annotations

from perfmon_widgets import Metric
from perfmon_widgets.metrics import unit_of
from perfmon_widgets.views.headline import Gpu, gpus, headline, headline_of_cells, headline_of_command


def metric(name: str, group: str, role: str = "") -> Metric:
    return Metric(name, unit_of(name), group, "", role=role)


def gpu_metrics(where: str) -> list[Metric]:
    return [
        metric(f"{where}/utilization_percent", "gpu", "headline"),
        metric(f"{where}/memory_percent", "gpu"),
        metric(f"{where}/memory_used_bytes", "gpu", "headline"),
        metric(f"{where}/memory_limit_bytes", "gpu", "limit"),
        metric(f"{where}/power_watts", "gpu"),
    ]


DECLARED = [
    metric("cpu_percent", "cpu", "headline"),
    metric("core0/cpu_percent", "cpu", "part"),
    metric("ram_used_bytes", "memory", "headline"),
    metric("ram_limit_bytes", "memory", "limit"),
    metric("disk_used_bytes", "disk"),
    *gpu_metrics("gpu0"),
    *gpu_metrics("node1/gpu1"),
    metric("process_cpu_percent", "process", "headline"),
    metric("process_ram_bytes", "process", "headline"),
    metric("process_read_bytes_per_second", "process"),
    metric("loss", "recorded"),
]


def names(metrics: list[Metric]) -> list[str]:
    return [each.name for each in metrics]


def test_the_process_comes_first_then_the_machine_then_each_gpu():
    assert names(headline(DECLARED)) == [
        "process_cpu_percent",
        "process_ram_bytes",
        "cpu_percent",
        "ram_used_bytes",
        "gpu0/utilization_percent",
        "gpu0/memory_used_bytes",
        "node1/gpu1/utilization_percent",
        "node1/gpu1/memory_used_bytes",
    ]


def test_a_role_decides_and_a_name_does_not():
    own = [metric("queue_rows", "jobs", "headline"), metric("cpu_percent", "cpu")]
    assert names(headline(own)) == ["queue_rows"]


def test_without_any_headline_what_stands_for_a_whole_comes_first():
    """As where a history was read from a CSV file, or has the columns of one's own collectors alone."""
    bare = [metric(each.name, each.group, each.role.replace("headline", "")) for each in DECLARED]
    assert names(headline(bare)) == [
        "process_cpu_percent",
        "process_ram_bytes",
        "process_read_bytes_per_second",
        "cpu_percent",
        "ram_used_bytes",
        "disk_used_bytes",
        "loss",
        *(f"gpu0/{what}" for what in ("utilization_percent", "memory_percent", "memory_used_bytes")),
        "gpu0/power_watts",
        *(f"node1/gpu1/{what}" for what in ("utilization_percent", "memory_percent", "memory_used_bytes")),
        "node1/gpu1/power_watts",
    ]
    assert headline([]) == []


def test_a_cell_is_charged_with_the_process_and_the_gpus():
    assert names(headline_of_cells(DECLARED)) == [
        "process_cpu_percent",
        "process_ram_bytes",
        "gpu0/utilization_percent",
        "gpu0/memory_used_bytes",
        "node1/gpu1/utilization_percent",
        "node1/gpu1/memory_used_bytes",
    ]


def test_a_command_has_its_traffic_and_the_power_of_the_gpus_too():
    found = names(headline_of_command(DECLARED))
    assert set(found) - set(names(headline(DECLARED))) == {
        "process_read_bytes_per_second",
        "gpu0/power_watts",
        "node1/gpu1/power_watts",
    }
    assert found[:3] == ["process_cpu_percent", "process_ram_bytes", "process_read_bytes_per_second"]
    assert found[-1] == "node1/gpu1/power_watts"


def test_each_gpu_has_a_label_and_two_columns():
    assert gpus(DECLARED) == [
        Gpu("GPU 0", "gpu0/utilization_percent", "gpu0/memory_used_bytes"),
        Gpu("node 1 GPU 1", "node1/gpu1/utilization_percent", "node1/gpu1/memory_used_bytes"),
    ]


def test_a_gpu_without_memory_of_its_own_is_left_out():
    assert gpus([metric("gpu0/utilization_percent", "gpu", "headline")]) == []


def test_without_any_headline_a_limit_of_another_column_does_not_come_first():
    used = Metric("quota_used_bytes", "bytes", "quota", "", limit="quota_bytes")
    assert headline([used, metric("quota_bytes", "quota")]) == [used]
