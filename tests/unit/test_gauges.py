"""What the gauges say of a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from perfmon_widgets import Metric, Sample
from perfmon_widgets.collectors.linux.host import METRICS as HOST
from perfmon_widgets.collectors.linux.host import OPTIONAL_METRICS as OPTIONAL
from perfmon_widgets.views.columns import group_of
from perfmon_widgets.views.gauges import Bar, Reading, in_lines, readings
from perfmon_widgets.views.sent import in_json

GIBIBYTE = 2.0**30
PROCESS = Metric("process_cpu_percent", "percent", "process", "This kernel's share.")


def gpu(where: str, *whats: str) -> list[Metric]:
    units = {
        "utilization_percent": "percent",
        "memory_percent": "percent",
        "memory_used_bytes": "bytes",
        "memory_limit_bytes": "bytes",
        "power_watts": "watts",
    }
    return [Metric(f"{where}/{what}", units[what], "gpu", "About it.") for what in whats or units]


def read(
    metrics: list[Metric], values: Mapping[str, float], errors: Mapping[str, str] | None = None
) -> dict[str, Reading]:
    """The readings of a sample that has these numbers and lacks all others."""
    filled = {metric.name: values.get(metric.name, math.nan) for metric in metrics}
    return readings(metrics, Sample(0.0, filled), errors or {})


def host(**set_by: str) -> list[Metric]:
    """The host's metrics, some of them limits that the machine has not itself."""
    return [replace(each, set_by=set_by.get(each.name, "")) for each in HOST]


# -- which gauges there are --------------------------------------------------------------------------------


def test_the_gauges_are_gpu_cpu_ram_and_disk_in_this_order():
    assert list(read(list(HOST), {})) == ["CPU", "RAM", "Disk", "GPU"]


def test_what_is_not_measured_has_no_gauge():
    assert list(read([Metric("cpu_percent", "percent", "cpu", "Busy.")], {})) == ["CPU", "GPU"]


def test_a_monitor_of_other_things_has_only_the_gauge_that_says_there_is_no_gpu():
    assert list(read([Metric("loss", "", "model", "Loss.")], {"loss": 1.0})) == ["GPU"]


def test_the_gauges_are_the_same_before_the_first_sample():
    shown = readings(list(HOST), None, {})
    assert list(shown) == ["CPU", "RAM", "Disk", "GPU"]
    assert all(math.isnan(reading.percent) for reading in shown.values())


# -- the host ----------------------------------------------------------------------------------------------


def test_cpu_says_this_kernels_share():
    assert read([*HOST, PROCESS], {"cpu_percent": 43.4, "process_cpu_percent": 12.25})["CPU"] == Reading(
        43.4, "this kernel 12%", "normal", "cpu_percent"
    )


@pytest.mark.parametrize("metrics", [list(HOST), [*HOST, PROCESS]])
def test_cpu_without_this_kernels_share_says_nothing_more(metrics):
    assert read(metrics, {"cpu_percent": 43.4})["CPU"] == Reading(43.4, "", "normal", "cpu_percent")


def test_memory_and_disk_say_how_much_of_how_much():
    values = {
        "ram_percent": 32.5,
        "ram_used_bytes": 5.2 * GIBIBYTE,
        "ram_limit_bytes": 16 * GIBIBYTE,
        "disk_percent": 50.0,
        "disk_used_bytes": 500 * GIBIBYTE,
        "disk_limit_bytes": 1000 * GIBIBYTE,
    }
    shown = read(list(HOST), values)
    assert shown["RAM"] == Reading(32.5, "5.2 of 16 GiB", "normal", "ram_percent")
    assert shown["Disk"] == Reading(50.0, "500 of 1000 GiB", "normal", "disk_percent")


@pytest.mark.parametrize(
    ("set_by", "words"), [("container", " (container)"), ("Slurm", " (Slurm)"), ("", "")]
)
def test_memory_says_who_set_the_limit_if_it_is_not_the_machines(set_by, words):
    values = {"ram_percent": 50.0, "ram_used_bytes": GIBIBYTE, "ram_limit_bytes": 2 * GIBIBYTE}
    assert read(host(ram_limit_bytes=set_by), values)["RAM"].detail == f"1 of 2 GiB{words}"


@pytest.mark.parametrize(
    ("name", "percent", "level"),
    [
        ("cpu_percent", 94.9, "normal"),
        ("cpu_percent", 95.0, "warning"),
        ("cpu_percent", 100.0, "warning"),  # but never critical
        ("ram_percent", 74.9, "normal"),
        ("ram_percent", 75.0, "warning"),
        ("ram_percent", 89.9, "warning"),
        ("ram_percent", 90.0, "critical"),
        ("disk_percent", 74.9, "normal"),
        ("disk_percent", 75.0, "warning"),
        ("disk_percent", 90.0, "critical"),
    ],
)
def test_the_level_follows_the_percentage(name, percent, level):
    label = {"cpu": "CPU", "ram": "RAM", "disk": "Disk"}[name.partition("_")[0]]
    assert read(list(HOST), {name: percent})[label].level == level


@pytest.mark.parametrize(
    ("unreclaimable", "level", "words"),
    [
        (0.1, "normal", "1.7 of 2 GiB (container), 1.6 GiB of it cache"),
        (1.6, "warning", "1.7 of 2 GiB (container)"),
        (1.7, "warning", "1.7 of 2 GiB (container)"),
    ],
)
def test_file_cache_in_a_container_is_no_danger_and_the_words_say_why(unreclaimable, level, words):
    values = {"ram_percent": 85.0, "ram_used_bytes": 1.7 * GIBIBYTE, "ram_limit_bytes": 2 * GIBIBYTE}
    values["ram_unreclaimable_bytes"] = unreclaimable * GIBIBYTE
    metrics = [*host(ram_limit_bytes="container"), *OPTIONAL]
    reading = read(metrics, values)["RAM"]
    assert (reading.level, reading.detail, reading.percent) == (level, words, 85.0)


@pytest.mark.parametrize(
    ("own", "level"), [(100, "normal"), (50, "normal"), (49, "warning"), (math.nan, "warning")]
)
def test_cpus_that_this_kernel_keeps_busy_are_no_warning(own, level):
    """It is what training wants; it is a warning if others do."""
    metrics = [*HOST, Metric("process_cpu_percent", "percent", "process", "Own.")]
    assert read(metrics, {"cpu_percent": 100.0, "process_cpu_percent": own})["CPU"].level == level


# -- what is missing ---------------------------------------------------------------------------------------


def test_a_missing_number_is_missing_and_never_zero():
    for reading in read(list(HOST), {}).values():
        assert math.isnan(reading.percent)
        assert reading.level == "normal"
        assert "0" not in reading.detail


def test_zero_is_a_number():
    assert read(list(HOST), {"cpu_percent": 0.0})["CPU"].percent == 0.0


def test_a_rate_needs_a_second_sample():
    assert read(list(HOST), {})["CPU"].detail == "waiting for a second sample"


def test_the_reason_for_a_missing_number_is_that_of_its_column():
    shown = read(list(HOST), {}, {"cpu_percent": "/proc is not mounted", "ram_percent": "no MemAvailable"})
    assert shown["CPU"].detail == "/proc is not mounted"
    assert shown["RAM"].detail == "no MemAvailable"
    assert shown["Disk"].detail == "waiting for a second sample"


def test_a_source_without_columns_gives_its_reason_for_the_group():
    assert read(list(HOST), {}, {"disk": "statvfs is not there"})["Disk"].detail == "statvfs is not there"


def test_no_gauge_knows_the_name_of_a_collector():
    """A source of another vendor, or of the user's, is asked in the same way."""
    errors = dict.fromkeys(("HostCollector", "NvidiaCollector", "AmdCollector"), "by the name of a class")
    assert "by the name of a class" not in {each.detail for each in read(list(HOST), {}, errors).values()}
    assert "by the name of a class" not in {each.detail for each in read(gpu("gpu0"), {}, errors).values()}


def test_the_reason_is_shown_in_a_container_too():
    metrics = host(ram_limit_bytes="container")
    assert (
        read(metrics, {}, {"ram_percent": "memory.current is gone"})["RAM"].detail == "memory.current is gone"
    )


def test_an_amount_is_shown_though_its_percentage_is_missing():
    assert read(list(HOST), {"ram_used_bytes": GIBIBYTE})["RAM"] == Reading(
        pytest.approx(math.nan, nan_ok=True), "1 GiB", "normal", "ram_percent"
    )


# -- GPUs --------------------------------------------------------------------------------------------------


def test_without_gpu_there_is_one_gauge_that_says_so():
    reading = read(list(HOST), {})["GPU"]
    assert math.isnan(reading.percent)
    assert reading.detail == "none found on this machine"


def test_gpus_that_nobody_uses_are_one_gauge_with_the_reason():
    metrics = [*gpu("gpu0"), *gpu("gpu1")]
    reason = "no model runs on it yet"
    shown = read(metrics, {}, {each.name: reason for each in metrics})
    assert list(shown) == ["GPU"]
    assert shown["GPU"].detail == reason


def test_a_driver_that_fails_is_the_reason():
    shown = read(list(HOST), {}, {"gpu": "Driver/library version mismatch"})
    assert shown["GPU"].detail == "Driver/library version mismatch"


def test_a_failure_of_another_source_is_not_the_gpus():
    errors = {metric.name: "broken" for metric in HOST} | {"HostCollector": "broken"}
    assert read(list(HOST), {}, errors)["GPU"].detail == "none found on this machine"


def test_gpus_that_are_there_but_silent_are_not_called_absent():
    assert read(gpu("gpu0"), {})["GPU"].detail != "none found on this machine"


def test_a_single_gpu_has_no_number():
    values = {
        "gpu0/utilization_percent": 87.0,
        "gpu0/memory_percent": 50.0,
        "gpu0/memory_used_bytes": 12 * GIBIBYTE,
        "gpu0/memory_limit_bytes": 24 * GIBIBYTE,
    }
    assert read(gpu("gpu0"), values) == {
        "GPU": Reading(87.0, "12 of 24 GiB", "normal", "gpu0/utilization_percent", Bar("memory", 50.0))
    }


def test_each_gpu_in_use_has_a_gauge():
    metrics = [each for number in range(8) for each in gpu(f"gpu{number}")]
    values = {f"gpu{number}/utilization_percent": 10.0 * number for number in (0, 3, 7)}
    shown = read(metrics, values)
    assert {label: reading.percent for label, reading in shown.items()} == {
        "GPU 0": 0.0,
        "GPU 3": 30.0,
        "GPU 7": 70.0,
    }


def test_a_gpu_whose_utilization_is_not_known_is_shown_with_its_memory():
    values = {"gpu0/memory_used_bytes": GIBIBYTE, "gpu0/memory_limit_bytes": 2 * GIBIBYTE}
    reading = read(gpu("gpu0"), values)["GPU"]
    assert math.isnan(reading.percent)
    assert reading.detail == "1 of 2 GiB"


@pytest.mark.parametrize(
    ("full", "level"),
    [(89.9, "normal"), (90.0, "warning"), (96.9, "warning"), (97.0, "critical")],
)
def test_memory_that_is_full_does_not_make_a_busy_gpu_red(full, level):
    """A GPU that is fully busy is what one wants; one that is full stops the model."""
    values = {"gpu0/utilization_percent": 93.0, "gpu0/memory_percent": full}
    reading = read(gpu("gpu0"), values)["GPU"]
    assert (reading.percent, reading.level) == (93.0, "normal")
    assert reading.bar == Bar("memory", full, level)


def test_the_words_say_both_numbers_of_a_gpu():
    values = {"gpu0/utilization_percent": 93.0, "gpu0/memory_percent": 89.0}
    amounts = {"gpu0/memory_used_bytes": 71 * GIBIBYTE, "gpu0/memory_limit_bytes": 80 * GIBIBYTE}
    metrics = gpu("gpu0")
    assert read(metrics, values)["GPU"].words == "memory 89%"
    assert read(metrics, values | amounts)["GPU"].words == "memory 89%, 71 of 80 GiB"
    assert in_lines(metrics, Sample(0.0, values | amounts), {}) == "GPU  93%  memory 89%, 71 of 80 GiB"


def test_a_gpu_whose_memory_is_not_known_has_no_bar():
    reading = read(gpu("gpu0"), {"gpu0/utilization_percent": 93.0})["GPU"]
    assert reading.bar is None
    assert reading.words == reading.detail


def test_what_is_sent_has_the_bar_without_what_goes_without_saying():
    full = Reading(93.04, "79 of 80 GiB", bar=Bar("memory", 98.76, "critical"))
    bar = {"label": "memory", "value": 98.8, "level": "critical"}
    assert in_json(full) == {"detail": "79 of 80 GiB", "value": 93.0, "bar": bar}
    half = Reading(math.nan, "40 of 80 GiB", bar=Bar("memory", 50.0))
    assert in_json(half) == {"detail": "40 of 80 GiB", "bar": {"label": "memory", "value": 50.0}}


def test_a_gpu_with_power_alone_has_a_gauge_without_numbers():
    reading = read(gpu("gpu0", "power_watts"), {"gpu0/power_watts": 150.0})["GPU"]
    assert math.isnan(reading.percent)


# -- as text -----------------------------------------------------------------------------------------------


def test_the_readings_are_aligned_lines_with_this_process_and_reasons():
    metrics = [
        Metric("cpu_percent", "percent", "cpu", "Busy."),
        PROCESS,
        Metric("process_ram_bytes", "bytes", "process", "Its memory.", label="RAM of this process"),
        Metric("process_read_bytes_per_second", "bytes_per_second", "process", "Its reads.", label="read"),
    ]
    values = {"cpu_percent": 43.2, "process_cpu_percent": 7.1, "process_ram_bytes": 1.5 * GIBIBYTE}
    values["process_read_bytes_per_second"] = math.nan
    errors = {"gpu": "no driver", "process_read_bytes_per_second": "needs Linux"}
    assert in_lines(metrics, Sample(0.0, values), errors).splitlines() == [
        "GPU                        –  no driver",
        "CPU                      43%  this kernel 7.1%",
        "process cpu             7.1%",
        "RAM of this process  1.5 GiB",
        "read                       –  needs Linux",
    ]


def test_before_the_first_sample_the_lines_say_so():
    lines = in_lines([PROCESS], None, {}).splitlines()
    assert lines[1] == "process cpu  –  waiting for a second sample"


# -- workers -----------------------------------------------------------------------------------------------


def of_workers(**numbers: float) -> dict[str, Reading]:
    names = {name.replace("_", "/", 1): value for name, value in numbers.items()}
    metrics = [Metric(name, "percent", "workers", "About it.") for name in names]
    return readings(metrics, Sample(0.0, names), {"worker0/cpu_percent": "it has left"})


def test_the_gauge_of_workers_says_how_busy_all_are_and_which_is_fullest():
    shown = of_workers(
        worker0_cpu_percent=50, worker1_cpu_percent=100, worker0_ram_percent=20, worker1_ram_percent=91
    )
    reading = shown["Workers"]
    assert (reading.percent, reading.level) == (75, "normal")
    assert reading.detail == "fullest worker 1: RAM 91%"
    assert reading.bar == Bar("RAM of worker 1", 91, "critical")
    assert next(iter(shown)) == "Workers"


def test_workers_that_have_left_do_not_count():
    reading = of_workers(worker0_cpu_percent=math.nan, worker1_cpu_percent=40)["Workers"]
    assert (reading.percent, reading.detail, reading.bar) == (40, "1 of 2", None)
    shown = of_workers(worker0_cpu_percent=math.nan, worker1_cpu_percent=40, worker1_ram_percent=7)
    assert shown["Workers"].detail == "1 of 2, fullest worker 1: RAM 7%"
    reading = of_workers(worker0_cpu_percent=math.nan)["Workers"]
    assert math.isnan(reading.percent)
    assert reading.detail == "it has left"


def test_each_kind_has_a_gauge_of_its_own():
    names = {"node0/cpu_percent": 30.0, "node1/cpu_percent": 50.0, "rank0/cpu_percent": 90.0}
    metrics = [Metric(name, "percent", group_of(name), "About it.") for name in names]
    shown = readings(metrics, Sample(0.0, names), {})
    assert {label: shown[label].percent for label in ("Nodes", "Ranks")} == {"Nodes": 40, "Ranks": 90}
    assert "Workers" not in shown
