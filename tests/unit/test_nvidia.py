"""The NVIDIA collector, through the real nvidia-ml-py over a fake driver library."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pynvml
import pytest
from fakes import nvidia as fakes

from perfmon_widgets.collectors.nvidia import collector as nvidia
from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector, NvidiaUnavailable

GIBIBYTE = 2**30


def wait_for_end() -> None:
    """Wait until the thread that the driver had held has ended."""
    for thread in threading.enumerate():
        if thread.name == "perfmon-nvidia":
            thread.join(5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the collector's monotonic clock forward."""
    ahead = 0.0
    real = time.monotonic

    def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr(nvidia.time, "monotonic", lambda: real() + ahead)
    return forward


def missing(values: Mapping[str, float]) -> set[str]:
    return {name for name, value in values.items() if math.isnan(value)}


def metric(collector: NvidiaCollector, name: str) -> nvidia.Metric:
    return next(metric for metric in collector.metrics if metric.name == name)


# What is read


@pytest.mark.parametrize("garbage", [2619, 808334905, 4294967295])
def test_a_utilization_that_cannot_be_true_is_missing_until_the_driver_returns_sense(
    nvidia_machine: fakes.Machine, garbage: int
) -> None:
    """DCGM#199, dcgm-exporter#418."""
    state = nvidia_machine(fakes.gpu(0, utilization=garbage))
    collector = NvidiaCollector([0])
    values = collector.collect()
    assert math.isnan(values["gpu0/utilization_percent"])
    assert "more than 100" in collector.errors["gpu0/utilization_percent"]
    assert values["gpu0/power_watts"] == 150
    state.set({"gpu0.utilization": 40})
    assert collector.collect()["gpu0/utilization_percent"] == 40
    assert "gpu0/utilization_percent" not in collector.errors
    collector.close()


def test_garbage_costs_its_own_column_only(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(fakes.gpu(0, utilization=2619, activity=5, used=40 * GIBIBYTE))
    collector = NvidiaCollector([0])
    values = collector.collect()
    assert values["gpu0/memory_activity_percent"] == 5
    assert values["gpu0/memory_limit_bytes"] == 16 * GIBIBYTE
    garbage = {"gpu0/utilization_percent", "gpu0/memory_used_bytes", "gpu0/memory_percent"}
    assert garbage <= missing(values)
    assert all("cannot be more than" in collector.errors[column] for column in garbage)
    state.set({"gpu0.utilization": 7, "gpu0.used": GIBIBYTE, "gpu0.total": 2**63})
    values = collector.collect()
    assert values["gpu0/utilization_percent"] == 7
    assert {"gpu0/memory_percent", "gpu0/memory_used_bytes", "gpu0/memory_limit_bytes"} <= missing(values)
    collector.close()


def test_power_and_clock_that_no_gpu_has(nvidia_machine: fakes.Machine) -> None:
    most = 2**32 - 1
    nvidia_machine(fakes.gpu(0, power=most, clock=65535, power_limit=most, clock_limit=most))
    collector = NvidiaCollector([0])
    assert {"gpu0/power_watts", "gpu0/sm_clock_hertz"} <= missing(collector.collect())
    assert "more than 4000" in collector.errors["gpu0/power_watts"]
    assert metric(collector, "gpu0/power_watts").limit is None
    assert metric(collector, "gpu0/sm_clock_hertz").limit is None
    collector.close()


def test_a_sample_that_cannot_be_true_is_left_out_of_the_mean(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(
        fakes.gpu(0, samples="1000000:40 1166666:808334905 1333333:50", memory_samples="1000000:4 1333333:6")
    )
    collector = NvidiaCollector([0])
    values = collector.collect()
    assert values["gpu0/utilization_percent"] == 45
    assert values["gpu0/memory_activity_percent"] == 5
    collector.close()


def test_an_error_of_any_kind_costs_its_own_columns_only(
    nvidia_machine: fakes.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_machine(fakes.gpu(0), fakes.gpu(1))
    collector = NvidiaCollector([0, 1])
    good = missing(collector.collect())

    def divide(handle: object) -> float:
        return 1 / 0

    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", divide)
    assert missing(collector.collect()) == good | {"gpu0/power_watts", "gpu1/power_watts"}
    assert collector.errors["gpu0/power_watts"] == "division by zero"
    monkeypatch.undo()
    collector.close()


def test_a_gpu_whose_name_cannot_be_decoded_costs_its_own_columns_only(
    nvidia_machine: fakes.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = nvidia_machine(fakes.gpu(0), fakes.gpu(1))
    path = state.path.with_suffix(".other")
    path.write_bytes(state.path.read_bytes().replace(b"gpu0.name NVIDIA", b"gpu0.name \xff"))
    path.replace(state.path)
    collector = NvidiaCollector([0, 1])
    values = collector.collect()
    assert values["gpu1/power_watts"] == 150
    assert math.isnan(values["gpu0/power_watts"])
    assert "decode" in collector.errors["gpu0/power_watts"]
    collector.close()


def test_every_missing_number_has_a_reason(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(fakes.gpu(0), fakes.gpu(1))
    collector = NvidiaCollector(search=fakes.in_use(1))
    values = collector.collect()
    assert missing(values) == set(collector.errors)
    assert all(collector.errors.values())
    collector.close()


def test_values_move(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(fakes.gpu(0))
    collector = NvidiaCollector(search=fakes.in_use(0))
    collector.collect()
    state.set({"gpu0.utilization": 99, "gpu0.used": 8 * GIBIBYTE})
    values = collector.collect()
    assert values["gpu0/utilization_percent"] == 99
    assert values["gpu0/memory_percent"] == 50
    collector.close()


def test_samples_since_the_last_reading(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(
        fakes.gpu(0, samples="1000000:90 1900000:10 2100000:30", memory_samples="2100000:5")
    )
    collector = NvidiaCollector(search=fakes.in_use(0))
    # The first time only the last second counts: before, the GPU may have been somebody else's.
    values = collector.collect()
    assert values["gpu0/utilization_percent"] == 20
    assert values["gpu0/memory_activity_percent"] == 5
    assert "mean of the driver's samples" in metric(collector, "gpu0/utilization_percent").source
    state.set(
        {"gpu0.samples": "2100000:30 2300000:100 2500000:0 2700000:20", "gpu0.memory_samples": "2500000:7"}
    )
    values = collector.collect()
    assert values["gpu0/utilization_percent"] == 40
    assert values["gpu0/memory_activity_percent"] == 7
    # An idle GPU keeps no samples; the rates say so.
    state.set({"gpu0.utilization": 0, "gpu0.activity": 0})
    values = collector.collect()
    assert values["gpu0/utilization_percent"] == 0
    state.set({"gpu0.samples": "3000000:50", "gpu0.memory_samples": "3000000:2"})
    assert collector.collect()["gpu0/utilization_percent"] == 50
    collector.close()


def test_samples_that_are_no_percentages(nvidia_machine: fakes.Machine) -> None:
    """Under MIG, driver 535 counts something else: no more samples are asked for then."""
    state = nvidia_machine(fakes.gpu(0, memory_samples="1000000:1"))
    collector = NvidiaCollector(search=fakes.in_use(0))
    for second in (1, 2, 3):
        assert "mean of the driver's samples" in metric(collector, "gpu0/utilization_percent").source
        state.set({"gpu0.samples": f"{second}000000:290000"})
        assert collector.collect()["gpu0/utilization_percent"] == 40
    assert "nvmlDeviceGetUtilizationRates" in metric(collector, "gpu0/utilization_percent").source
    collector.close()


def test_garbage_now_and_then_costs_one_mean_only(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(fakes.gpu(0, memory_samples="1000000:1"))
    collector = NvidiaCollector(search=fakes.in_use(0))
    for second in range(1, 7):
        samples = f"{second}000000:{4294967295 if second % 3 else 70}"
        state.set({"gpu0.samples": samples, "gpu0.memory_samples": f"{second}000000:7"})
        assert collector.collect()["gpu0/utilization_percent"] == (40 if second % 3 else 70)
    assert "mean of the driver's samples" in metric(collector, "gpu0/utilization_percent").source
    collector.close()


def test_more_samples_than_fit(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(fakes.gpu(0, memory_samples="1000000:1"))
    state.set({"gpu0.samples": " ".join(f"{1_000_000 + number}:50" for number in range(200))})
    collector = NvidiaCollector(search=fakes.in_use(0))
    assert collector.collect()["gpu0/utilization_percent"] == 40
    collector.close()


def test_counters_become_rates(nvidia_machine: fakes.Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(nvidia.time, "monotonic", lambda: now)
    state = nvidia_machine(fakes.gpu(0, field197=1000, field198=0, field138=10, field139=20))
    collector = NvidiaCollector(search=fakes.in_use(0))
    names = {
        f"gpu0/{link}_{way}_bytes_per_second" for link in ("pcie", "nvlink") for way in ("sent", "received")
    }
    assert names <= missing(collector.collect())
    assert {collector.errors[name] for name in names} == {"a rate needs two readings"}
    state.set({"gpu0.field197": 6000, "gpu0.field198": 10, "gpu0.field138": 12, "gpu0.field139": 20})
    now += 2
    values = collector.collect()
    assert values["gpu0/pcie_sent_bytes_per_second"] == 2500
    assert values["gpu0/pcie_received_bytes_per_second"] == 5
    assert values["gpu0/nvlink_sent_bytes_per_second"] == 1024  # counted in KiB
    assert values["gpu0/nvlink_received_bytes_per_second"] == 0
    assert not names & collector.errors.keys()
    state.set({"gpu0.field197": 0})  # it has wrapped: how far it went is not known
    now += 2
    assert math.isnan(collector.collect()["gpu0/pcie_sent_bytes_per_second"])
    collector.close()


def test_narrow_counters_are_no_rates(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(fakes.gpu(0, field197=1, field198=1, narrow=1))
    collector = NvidiaCollector(search=fakes.in_use(0))
    collector.collect()
    assert "32 bits" in collector.errors["gpu0/pcie_sent_bytes_per_second"]
    collector.close()


# What fails, and what goes on


@pytest.mark.parametrize(
    ("function", "columns"),
    [
        ("nvmlDeviceGetUtilizationRates", {"utilization_percent", "memory_activity_percent"}),
        ("nvmlDeviceGetMemoryInfo_v2", {"memory_percent", "memory_used_bytes", "memory_limit_bytes"}),
        ("nvmlDeviceGetPowerUsage", {"power_watts"}),
        ("nvmlDeviceGetClockInfo", {"sm_clock_hertz"}),
    ],
)
@pytest.mark.parametrize(("code", "reason"), [(3, "not supported"), (4, "not permitted")])
def test_each_number_fails_alone(
    nvidia_machine: fakes.Machine,
    clock: Callable[[float], None],
    *,
    function: str,
    columns: set[str],
    code: int,
    reason: str,
) -> None:
    state = nvidia_machine(fakes.gpu(0), fakes.gpu(1))
    collector = NvidiaCollector(search=fakes.in_use(0, 1))
    good = missing(collector.collect())
    state.set({f"gpu0.{function}": code})
    lost = {f"gpu0/{column}" for column in columns}
    assert missing(collector.collect()) == good | lost
    assert all(reason in collector.errors[column] for column in lost)
    # Left alone for a minute, then tried again.
    state.set({f"gpu0.{function}": None})
    asked = len(state.calls(function))
    collector.collect()
    assert len(state.calls(function)) == asked + 1
    clock(61)
    assert missing(collector.collect()) == good
    assert not lost & set(collector.errors)
    collector.close()


def test_another_error_is_tried_again_at_once(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(fakes.gpu(0))
    collector = NvidiaCollector(search=fakes.in_use(0))
    state.set({"gpu0.nvmlDeviceGetPowerUsage": 999})
    assert math.isnan(collector.collect()["gpu0/power_watts"])
    assert "unknown error" in collector.errors["gpu0/power_watts"]
    state.set({"gpu0.nvmlDeviceGetPowerUsage": 777})
    collector.collect()
    assert "fake error 777" in collector.errors["gpu0/power_watts"]
    state.set({"gpu0.nvmlDeviceGetPowerUsage": None})
    assert collector.collect()["gpu0/power_watts"] == 150
    collector.close()


def test_lost_gpu_keeps_the_others(nvidia_machine: fakes.Machine, clock: Callable[[float], None]) -> None:
    state = nvidia_machine(fakes.gpu(0), fakes.gpu(1))
    collector = NvidiaCollector(search=fakes.in_use(0, 1))
    good = missing(collector.collect())
    state.set({"gpu0.nvmlDeviceGetMemoryInfo_v2": 15, "gpu0.nvmlDeviceGetUtilizationRates": 15})
    values = collector.collect()
    assert values["gpu1/power_watts"] == 150
    assert {name for name in values if name.startswith("gpu0/")} <= missing(values)
    assert "lost" in collector.errors["gpu0/power_watts"]
    state.set({"gpu0.nvmlDeviceGetMemoryInfo_v2": None, "gpu0.nvmlDeviceGetUtilizationRates": None})
    assert math.isnan(collector.collect()["gpu0/power_watts"])
    clock(61)
    assert missing(collector.collect()) == good
    collector.close()


def test_nvml_shut_down_by_somebody_else(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(fakes.gpu(0))
    collector = NvidiaCollector(search=fakes.in_use(0))
    good = missing(collector.collect())
    pynvml.nvmlShutdown()
    collector.collect()
    assert missing(collector.collect()) == good
    collector.close()


@pytest.mark.parametrize("code", [2, 13, 25])
def test_a_driver_that_refuses_the_second_version_is_asked_for_the_first(
    nvidia_machine: fakes.Machine, code: int
) -> None:
    state = nvidia_machine(fakes.gpu(0, nvmlDeviceGetMemoryInfo_v2=code))
    collector = NvidiaCollector([0])
    for _ in range(2):
        assert collector.collect()["gpu0/memory_used_bytes"] == 5 * GIBIBYTE  # with what is reserved
    assert len(state.calls("nvmlDeviceGetMemoryInfo_v2")) == 1
    assert "reserved memory as used" in metric(collector, "gpu0/memory_used_bytes").source
    collector.close()


def test_unified_memory(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(
        fakes.gpu(0, name="NVIDIA GB10", total=None), fakes.gpu(1, total=None), fakes.gpu(2, total=0)
    )
    collector = NvidiaCollector(search=fakes.in_use(0, 1, 2))
    values = collector.collect()
    assert math.isnan(values["gpu0/memory_used_bytes"])
    assert "shares the machine's memory" in collector.errors["gpu0/memory_percent"]
    assert values["gpu0/power_watts"] == 150
    # Only where the GPU is known to have no memory of its own.
    assert "not supported" in collector.errors["gpu1/memory_percent"]
    assert math.isnan(values["gpu2/memory_percent"])
    collector.close()


# A driver that takes its time


def test_slow_driver(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(fakes.gpu(0))
    collector = NvidiaCollector(search=fakes.in_use(0))
    state.set({"sleep.nvmlDeviceGetPowerUsage": 1800})
    started = time.monotonic()
    assert missing(collector.collect()) == {metric.name for metric in collector.metrics}
    assert time.monotonic() - started < 1.5
    assert "has not answered for 1 s" in collector.errors["gpu0/power_watts"]
    state.set({"sleep.nvmlDeviceGetPowerUsage": None})
    collector._thread._last.result(5)
    assert collector.collect()["gpu0/power_watts"] == 150
    assert "gpu0/power_watts" not in collector.errors
    collector.close()


def test_driver_that_never_returns(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(fakes.gpu(0))
    collector = NvidiaCollector(search=fakes.in_use(0))
    collector.collect()
    state.set({"hang.nvmlDeviceGetMemoryInfo_v2": 1})
    started = time.monotonic()
    collector.collect()
    assert 0.9 < time.monotonic() - started < 1.5
    started = time.monotonic()
    for _ in range(3):  # it is not waited for a second time
        collector.collect()
    assert "has not answered for 1 s" in collector.errors["gpu0/power_watts"]
    collector.close()  # nor at the end
    collector.collect()
    assert time.monotonic() - started < 0.5
    assert sum(thread.name == "perfmon-nvidia" for thread in threading.enumerate()) == 1
    state.set({"hang.nvmlDeviceGetMemoryInfo_v2": None})
    collector._thread._last.result(5)
    assert collector.collect()["gpu0/power_watts"] == 150
    collector.close()


def test_driver_that_never_opens(nvidia_machine: fakes.Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    state = nvidia_machine(fakes.gpu(0))
    state.set({"hang.nvmlInitWithFlags": 1})
    monkeypatch.setattr(nvidia, "_OPENING", 0.1)
    with pytest.raises(NvidiaUnavailable, match="has not answered"):
        NvidiaCollector()
    state.set({"hang.nvmlInitWithFlags": None})
    wait_for_end()


# The thread, the process, the session


def test_thread_ends_with_close_and_starts_again(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(fakes.gpu(0))
    collector = NvidiaCollector(search=fakes.in_use(0))
    for _ in range(2):
        assert not any(thread.name == "perfmon-nvidia" for thread in threading.enumerate())
        assert collector.collect()["gpu0/power_watts"] == 150
        assert sum(thread.name == "perfmon-nvidia" for thread in threading.enumerate()) == 1
        collector.close()
        collector.close()


def test_thread_ends_with_the_last_reference(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(fakes.gpu(0))
    collector = NvidiaCollector(search=fakes.in_use(0))
    collector.collect()
    thread = collector._thread._thread
    del collector
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_nvml_is_initialised_once_and_never_shut_down(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(fakes.gpu(0))
    for _ in range(2):
        collector = NvidiaCollector(search=fakes.in_use(0))
        collector.collect()
        collector.close()
    assert len(state.calls("nvmlInitWithFlags")) == 1
    assert not state.calls("nvmlShutdown")


def test_fork(nvidia_machine: fakes.Machine, forked: Callable[..., float]) -> None:
    state = nvidia_machine(fakes.gpu(0))
    collector = NvidiaCollector(search=fakes.in_use(0))
    collector.collect()
    assert forked(lambda: collector.collect()["gpu0/power_watts"]) == 150
    assert len(state.calls("nvmlInitWithFlags")) == 2
    assert collector.collect()["gpu0/power_watts"] == 150
    collector.close()


def test_steady_state_looks_nothing_up(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(
        fakes.gpu(0, field197=1, field198=1, field138=1, field139=1, samples="1:1", memory_samples="1:1")
    )
    collector = NvidiaCollector(search=fakes.in_use(0))
    collector.collect()
    described = collector.metrics
    before = len(state.calls())
    collector.collect()
    assert [call.split()[0] for call in state.calls()[before:]] == [
        "nvmlDeviceGetSamples",  # nothing new, so the rates
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetFieldValues",
    ]
    assert collector.metrics is described
    collector.close()


# GPUs that the user named, and MIG slices


def test_named_gpus(nvidia_machine: fakes.Machine) -> None:
    state = nvidia_machine(*map(fakes.gpu, range(4)))
    collector = NvidiaCollector([2, f"GPU-{fakes.identity(1)}", "2"])
    assert {metric.where for metric in collector.metrics} == {"gpu2", "gpu1"}
    values = collector.collect()
    assert values["gpu1/power_watts"] == values["gpu2/power_watts"] == 150
    assert set(state.calls("attach")) == {"gpu1", "gpu2"}
    collector.close()


LOST_NAMES: list[int | str] = [1, "1", f"GPU-{fakes.identity(1)}"]


@pytest.mark.parametrize("lost", LOST_NAMES)
@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize(("code", "words"), [(15, "lost"), (16, "reset"), (4, "not permitted")])
def test_a_named_gpu_that_cannot_be_read_costs_its_own_columns_only(
    nvidia_machine: fakes.Machine,
    clock: Callable[[float], None],
    tmp_path: Path,
    *,
    lost: int | str,
    lists: bool,
    code: int,
    words: str,
) -> None:
    gpus = [fakes.gpu(number) for number in range(3)]
    state = nvidia_machine(*gpus)
    if lists:
        fakes.driver_list(tmp_path, *gpus)
    state.set({"gpu1.attach": code})
    collector = NvidiaCollector([0, lost], proc=tmp_path)
    values = collector.collect()
    assert {metric.where for metric in collector.metrics} == {"gpu0", "gpu1"}
    assert values["gpu0/power_watts"] == 150
    assert {name for name in values if name.startswith("gpu1/")} <= missing(values)
    assert words in collector.errors["gpu1/power_watts"]
    state.set({"gpu1.attach": None})
    clock(61)
    assert collector.collect()["gpu1/power_watts"] == 150
    collector.close()


def test_a_name_that_may_be_that_of_several_lost_gpus_is_an_error(
    nvidia_machine: fakes.Machine, tmp_path: Path
) -> None:
    nvidia_machine(*map(fakes.gpu, range(3))).set({"gpu1.attach": 15, "gpu2.attach": 15})
    with pytest.raises(ValueError, match="no GPU 'GPU-"):
        NvidiaCollector([0, f"GPU-{fakes.identity(1)}"], proc=tmp_path)


@pytest.mark.parametrize("state", ["active", "unsupported", "suspended", None])
def test_a_gpu_that_has_fallen_off_the_bus_is_said_to_be_lost(
    nvidia_machine: fakes.Machine, tmp_path: Path, state: str | None
) -> None:
    """Nothing can use it any more, so it is never found in use; the driver is not asked."""
    gpus = [fakes.gpu(number) for number in range(2)]
    driver = nvidia_machine(*gpus)
    proc = fakes.driver_list(tmp_path / "proc", *gpus)
    for number, content in enumerate((b"\xde\x10\x35\x22", b"\xff" * 64)):
        folder = tmp_path / "sys/bus/pci/devices" / str(gpus[number][f"gpu{number}.pci"])
        (folder / "power").mkdir(parents=True)
        (folder / "config").write_bytes(content)
        if state is not None:
            (folder / "power/runtime_status").write_text(f"{state}\n")
    collector = NvidiaCollector(search=list, proc=proc, sys=tmp_path / "sys")
    collector.collect()
    assert "no GPU in use yet" in collector.errors["gpu0/power_watts"]
    expected = "no GPU in use yet" if state == "suspended" else "the GPU is lost"
    assert expected in collector.errors["gpu1/power_watts"]
    assert not driver.calls("attach")
    collector.close()


@pytest.mark.parametrize("code", [15, 16, 999])
def test_a_gpu_in_use_that_is_lost_says_so_and_the_others_do_not(
    nvidia_machine: fakes.Machine, code: int
) -> None:
    state = nvidia_machine(fakes.gpu(0), fakes.gpu(1), fakes.gpu(2))
    state.set({"gpu1.attach": code})
    collector = NvidiaCollector(search=fakes.in_use(0, 1))
    values = collector.collect()
    assert values["gpu0/power_watts"] == 150
    assert "no GPU in use yet" not in collector.errors["gpu1/power_watts"]
    assert "no GPU in use yet" in collector.errors["gpu2/power_watts"]
    collector.close()


@pytest.mark.parametrize("name", [2, -1, "GPU-none", "MIG-none", "cuda:0"])
def test_wrong_name(nvidia_machine: fakes.Machine, name: int | str) -> None:
    nvidia_machine(*map(fakes.gpu, range(2)))
    existing = f"0 .GPU-{fakes.identity(0)}., 1 .GPU-{fakes.identity(1)}."
    with pytest.raises(ValueError, match=f"no GPU {name!r} here, only {existing}"):
        NvidiaCollector([0, name])


def mig(number: int, **values: object) -> dict[str, object]:
    """A GPU with two MIG slices, whose own figures are never those of a slice."""
    lines = fakes.gpu(number, mig=1, utilization=None)
    for slice_number in (0, 1):
        lines |= {
            f"gpu{number}mig{slice_number}.uuid": f"MIG-{fakes.identity(100 + slice_number)}",
            f"gpu{number}mig{slice_number}.name": "NVIDIA Fake MIG 1g.10gb",
            f"gpu{number}mig{slice_number}.gi": 3 + slice_number,
            f"gpu{number}mig{slice_number}.total": 8 * GIBIBYTE,
            f"gpu{number}mig{slice_number}.used": (1 + slice_number) * GIBIBYTE,
        }
    return lines | {f"gpu{number}.{key}": value for key, value in values.items()}


def test_slice_without_activity(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(mig(0))
    collector = NvidiaCollector([f"MIG-{fakes.identity(101)}"])
    values = collector.collect()
    assert values["gpu0/memory_used_bytes"] == 2 * GIBIBYTE
    assert values["gpu0/memory_percent"] == 25
    for column in missing(values):
        of_torch = "PyTorch is not imported in this process"
        assert collector.errors[column] == (of_torch if "torch" in column else "not reported for MIG slices")
    assert len(missing(values)) == len(values) - 3
    expected = f"NVIDIA Fake MIG 1g.10gb (MIG-{fakes.identity(101)})"
    assert metric(collector, "gpu0/memory_percent").device == expected
    collector.close()


def test_slice_with_activity(nvidia_machine: fakes.Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(nvidia.time, "monotonic", lambda: now)
    state = nvidia_machine(mig(0, gpm=1, busy4=1000))
    collector = NvidiaCollector([f"MIG-{fakes.identity(101)}"])
    assert math.isnan(collector.collect()["gpu0/utilization_percent"])
    assert collector.errors["gpu0/utilization_percent"] == "a rate needs two readings"
    for busy, percent in ((1070, 70), (1075, 5), (1075, 0)):
        now += 5
        state.set({"gpu0.busy4": busy})
        assert collector.collect()["gpu0/utilization_percent"] == percent
    now += 0.01
    assert math.isnan(collector.collect()["gpu0/utilization_percent"])
    state.set({"gpu0.busy4": None})  # as where a virtual machine has only a part of the GPU
    now += 5
    assert math.isnan(collector.collect()["gpu0/utilization_percent"])
    assert "refuses" in collector.errors["gpu0/utilization_percent"]
    assert len(state.calls("nvmlGpmSampleAlloc")) == 2
    assert "GRAPHICS_UTIL" in metric(collector, "gpu0/utilization_percent").source
    collector.close()


def test_two_slices_of_one_gpu(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(mig(0))
    collector = NvidiaCollector([f"MIG-{fakes.identity(100)}", f"MIG-{fakes.identity(101)}"])
    values = collector.collect()
    assert values["gpu0/memory_used_bytes"] == GIBIBYTE
    assert values["gpu0/gi4ci0/memory_used_bytes"] == 2 * GIBIBYTE
    assert metric(collector, "gpu0/gi4ci0/memory_used_bytes").limit == "gpu0/gi4ci0/memory_limit_bytes"
    collector.close()


def test_gpu_divided_into_slices(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(mig(0))
    collector = NvidiaCollector([0])
    assert math.isnan(collector.collect()["gpu0/utilization_percent"])
    assert "name a slice" in collector.errors["gpu0/utilization_percent"]
    collector.close()


# No GPU, or none that works


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (12, FileNotFoundError, "no NVIDIA driver on this machine"),
        (9, NvidiaUnavailable, "not loaded"),
        (18, NvidiaUnavailable, "restart"),
        (4, NvidiaUnavailable, "/dev/nvidiactl"),
        (999, NvidiaUnavailable, "restart"),
        (777, NvidiaUnavailable, "fake error 777"),
    ],
)
def test_no_driver_is_not_the_same_as_one_that_does_not_work(
    nvidia_machine: fakes.Machine, code: int, kind: type[OSError], words: str
) -> None:
    nvidia_machine().set({"driver.nvmlInitWithFlags": code})
    with pytest.raises(kind, match=words):
        NvidiaCollector()


def test_driver_without_gpus(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine()
    with pytest.raises(FileNotFoundError, match="shows no GPU"):
        NvidiaCollector()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", not_found)
    monkeypatch.setattr(nvidia._session, "is_open", False)
    with pytest.raises(FileNotFoundError, match="no NVIDIA driver on this machine"):
        NvidiaCollector()
