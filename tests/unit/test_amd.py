"""AMD GPUs from files: which there are, which are in use, what is read of them, and what is missing."""

from __future__ import annotations

import errno
import importlib.util
import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.amd import APU, DISCRETE, MI300, MIB, FakeAmd
from fakes.collectors import read

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.collectors import Collector, allowance
from perfmon_widgets.collectors.amd import collector as amd
from perfmon_widgets.collectors.amd import in_use
from perfmon_widgets.collectors.amd.collector import AmdCollector
from perfmon_widgets.collectors.amd.gpus import known_gpus, visible_devices
from perfmon_widgets.collectors.nvidia import collector as nvidia

ME = os.getpid()
FIRST, SECOND = "0000:03:00.0", "0000:c3:00.0"


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_use, "_SEARCH_EVERY", 0.0)
    monkeypatch.setattr(allowance, "_SHARE", math.inf)


@pytest.fixture
def machine(tmp_path: Path) -> FakeAmd:
    return FakeAmd(tmp_path)


@pytest.fixture
def made(machine: FakeAmd) -> Iterator[Callable[..., AmdCollector]]:
    """Makes collectors of the fake machine, and closes them."""
    all_made: list[AmdCollector] = []

    def make(gpus: list[int | str] | None = None, **more: object) -> AmdCollector:
        settings = {"environment": {}, "opener": machine.open, **more}
        one = AmdCollector(gpus, sys=machine.sys, proc=machine.proc, dev=machine.dev, **settings)
        all_made.append(one)
        return one

    yield make
    for one in all_made:
        one.close()


# -- which GPUs there are ----------------------------------------------------------------------------------


def test_gpus_are_known_in_the_order_of_their_addresses(machine):
    machine.gpu(SECOND, DISCRETE)
    machine.other("0000:01:00.0", "0x10de", "nvidia")
    machine.gpu(FIRST, APU)
    machine.other("0000:08:00.0", "0x1002", "vfio-pci")  # lent to a virtual machine
    apu, discrete = known_gpus(machine.sys)
    assert (apu.pci, discrete.pci) == (FIRST, SECOND)
    assert (apu.uuid, discrete.uuid) == ("", "GPU-a1b2c3d4e5f60718")
    assert (apu.name, discrete.name) == ("AMD GPU 73bf", "Radeon RX 6900 XT")


def test_the_partitions_of_one_gpu_are_one_device_and_say_so(machine, made):
    machine.gpu(FIRST, MI300, partitions=8)
    (gpu,) = known_gpus(machine.sys)
    assert gpu.partitions == 8
    collector = made([0])
    assert {metric.where for metric in collector.metrics} == {"gpu0"}
    assert "all of its 8 partitions together" in collector.metrics[0].device
    assert collector.collect()["gpu0/memory_percent"] == 50.0


def test_a_machine_without_one_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no AMD GPU"):
        AmdCollector(sys=tmp_path, proc=tmp_path)


def test_this_machine_can_be_asked():
    assert isinstance(known_gpus(Path("/sys")), list)


# -- what is read ------------------------------------------------------------------------------------------


def test_it_is_a_collector_with_columns_for_every_visible_gpu(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.gpu(SECOND, APU)
    collector = made()
    assert isinstance(collector, Collector)
    names = [metric.name for metric in collector.metrics]
    assert names == [f"gpu{number}/{metric.name}" for number in (0, 1) for metric in amd.METRICS]
    limits = {metric.limit for metric in collector.metrics if isinstance(metric.limit, str)}
    assert limits <= set(names)


def test_columns_are_named_as_nvidias_where_they_mean_the_same():
    """The panel, the charts and people's scripts then need not know whose GPU it is."""
    theirs = {metric.name: metric.unit for metric in nvidia.METRICS}
    ours = {metric.name: metric.unit for metric in amd.METRICS}
    assert set(theirs) & set(ours) == {
        "utilization_percent",
        "memory_percent",
        "memory_used_bytes",
        "memory_limit_bytes",
        "memory_activity_percent",
        "power_watts",
    }
    assert all(ours[name] == unit for name, unit in theirs.items() if name in ours)


def test_a_discrete_gpu(machine, made):
    folder = machine.gpu(FIRST, DISCRETE)
    collector = made([0])
    assert read(collector) == {
        "gpu0/utilization_percent": 37.0,
        "gpu0/memory_percent": 25.0,
        "gpu0/memory_used_bytes": 4096.0 * MIB,
        "gpu0/memory_limit_bytes": 16384.0 * MIB,
        "gpu0/memory_activity_percent": 12.0,
        "gpu0/power_watts": 123.0,
        "gpu0/clock_hertz": 2.105e9,
        "gpu0/memory_clock_hertz": 1e9,
    }
    assert collector.errors == {}
    sources = {metric.name: metric.source for metric in collector.metrics}
    shown = machine.sys / "class/drm/card0/device"
    assert sources["gpu0/power_watts"] == str(shown / "hwmon/hwmon3/power1_average")
    assert sources["gpu0/utilization_percent"] == str(shown / "gpu_busy_percent")
    assert shown.resolve() == folder


def test_readings_follow_the_files(machine, made):
    folder = machine.gpu(FIRST, DISCRETE)
    collector = made([0])
    collector.collect()
    (folder / "gpu_busy_percent").write_text("99\n")
    assert collector.collect()["gpu0/utilization_percent"] == 99.0


def test_an_apu_lacks_some_files_and_says_which(machine, made):
    machine.gpu(FIRST, APU)
    collector = made([0])
    values = collector.collect()
    assert values["gpu0/utilization_percent"] == 5.0
    assert values["gpu0/power_watts"] == 15.0
    assert set(collector.errors) == {"gpu0/memory_activity_percent", "gpu0/memory_clock_hertz"}
    assert set(collector.errors.values()) == {"not supported by this GPU or its driver"}
    assert not set(collector.errors) & set(values)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENODATA, errno.ENOENT])
def test_what_is_not_supported_is_missing_and_never_nothing(machine, made, number):
    """A file that is there and cannot be read (BC-250: btop showed 0 %)."""
    machine.gpu(FIRST, DISCRETE)
    machine.errors["gpu_busy_percent"] = number
    collector = made([0])
    assert "gpu0/utilization_percent" not in collector.collect()
    assert "not supported" in collector.errors["gpu0/utilization_percent"]
    assert len(collector.errors) == 1  # each fails alone


def test_an_apu_holds_models_in_memory_of_the_machine(machine, made):
    """Strix Halo: 512 MiB cut off as VRAM, and a model of 90 GiB in GTT."""
    lines = {"mem_info_gtt_total": str(124 * 1024 * MIB), "mem_info_gtt_used": str(90 * 1024 * MIB)}
    machine.gpu(FIRST, APU | lines)
    machine.gpu(SECOND, DISCRETE | {"mem_info_gtt_used": str(9000 * MIB)})
    collector = made([0, 1])
    values = collector.collect()
    assert values["gpu0/memory_used_bytes"] == (128 + 90 * 1024) * MIB
    assert values["gpu0/memory_limit_bytes"] == (512 + 124 * 1024) * MIB
    assert values["gpu0/memory_percent"] == pytest.approx(100 * (128 + 90 * 1024) / (512 + 124 * 1024))
    assert values["gpu1/memory_used_bytes"] == 4096 * MIB  # GTT is no memory of a card
    metrics = {metric.name: metric for metric in collector.metrics}
    assert "shares the machine's memory" in metrics["gpu0/memory_used_bytes"].device
    assert "shares" not in metrics["gpu1/memory_used_bytes"].device
    assert metrics["gpu0/memory_used_bytes"].source.endswith("mem_info_gtt_used")


@pytest.mark.parametrize(
    ("files", "shares"),
    [
        (APU, True),
        (APU | {"mem_info_vram_total": str(98304 * MIB)}, True),  # a carve-out above the GTT
        (APU | {"pcie_bw": "1 2 128"}, False),  # Vega 10: a card that does not measure its memory's load
        (MI300 | {"mem_info_gtt_total": str(500 * MIB)}, False),  # an MI300A: all of its memory is VRAM
        ({key: text for key, text in APU.items() if key != "gpu_busy_percent"}, False),  # nothing is measured
    ],
)
def test_which_gpus_share_the_memory_of_the_machine(machine, files, shares):
    machine.gpu(FIRST, files)
    (gpu,) = known_gpus(machine.sys)
    assert gpu.shares_memory is shares


def test_an_apu_whose_gtt_cannot_be_read_has_no_memory_in_use(machine, made):
    machine.gpu(FIRST, APU)
    machine.errors["mem_info_gtt_used"] = errno.ENOENT
    collector = made([0])
    values = collector.collect()
    assert not {"gpu0/memory_used_bytes", "gpu0/memory_percent"} & values.keys()
    assert "not supported" in collector.errors["gpu0/memory_used_bytes"]


BUSY = ("gpu_busy_percent", "mem_busy_percent", "power1_average", "freq1_input", "freq2_input")


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM])
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("active", "the driver is busy or is resetting the GPU"),
        ("unsupported", "the driver is busy or is resetting the GPU"),
        (None, "the GPU is asleep, or its driver is busy"),
    ],
)
def test_a_gpu_that_is_awake_but_gives_no_answer_is_not_said_to_be_asleep(
    machine, made, number, state, words
):
    """EBUSY or, from Linux 6.15, EPERM: neither is about rights."""
    folder = machine.gpu(FIRST, DISCRETE | {"power/runtime_status": state or ""})
    if state is None:
        (folder / "power/runtime_status").unlink()
    machine.errors.update(dict.fromkeys(BUSY, number))
    collector = made([0])
    assert collector.collect()["gpu0/memory_percent"] == 25.0
    assert words in collector.errors["gpu0/utilization_percent"]
    del machine.errors["power1_average"]  # whose number shows that it is awake
    assert collector.collect()["gpu0/power_watts"] == 123.0
    assert "asleep" not in collector.errors["gpu0/utilization_percent"]
    machine.errors.clear()
    assert collector.collect()["gpu0/utilization_percent"] == 37.0


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM])
def test_a_gpu_that_falls_asleep_between_the_question_and_the_reading(machine, made, number):
    folder = machine.gpu(FIRST, DISCRETE)
    machine.errors.update(dict.fromkeys(BUSY, number))

    def fall_asleep(path: Path):
        if path.name == "gpu_busy_percent":
            (folder / "power/runtime_status").write_text("suspended\n")
        return machine.open(path)

    collector = made([0], opener=fall_asleep)
    collector.collect()
    assert collector.errors["gpu0/utilization_percent"] == "the GPU is asleep, and reading it would wake it"


@pytest.mark.parametrize("state", ["suspended", "suspending", "resuming"])
def test_a_sleeping_gpu_is_not_woken(machine, made, state):
    """Its memory is counted by the driver, without asking the GPU; every other file is left alone."""
    machine.gpu(FIRST, {**DISCRETE, "power/runtime_status": state})
    collector = made([0])
    values = collector.collect()
    assert set(values) == {f"gpu0/memory_{what}" for what in ("percent", "used_bytes", "limit_bytes")}
    assert set(machine.opened) == {"runtime_status", "mem_info_vram_used", "mem_info_vram_total"}
    assert collector.errors["gpu0/power_watts"] == "the GPU is asleep, and reading it would wake it"


@pytest.mark.parametrize("state", ["active", "unsupported", None])
def test_a_gpu_that_is_awake_or_cannot_sleep_is_read(machine, made, state):
    folder = machine.gpu(FIRST, DISCRETE)
    if state is None:
        (folder / "power/runtime_status").unlink()
    else:
        (folder / "power/runtime_status").write_text(state)
    assert made([0]).collect()["gpu0/utilization_percent"] == 37.0


def test_a_gpu_that_wakes_up_is_read_again(machine, made):
    folder = machine.gpu(FIRST, {**DISCRETE, "power/runtime_status": "suspended"})
    collector = made([0])
    collector.collect()
    (folder / "power/runtime_status").write_text("active\n")
    assert collector.collect()["gpu0/power_watts"] == 123.0
    assert collector.errors == {}


def test_a_gpu_that_goes_away_keeps_the_others_and_may_come_back(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.gpu(SECOND, MI300)
    collector = made([0, 1])
    machine.errors.update(dict.fromkeys(("power1_average",), errno.ENODEV))
    values = collector.collect()
    assert values["gpu1/power_watts"] == 600.0
    assert "gone" in collector.errors["gpu0/power_watts"]
    machine.errors.clear()
    assert collector.collect()["gpu0/power_watts"] == 123.0


@pytest.mark.parametrize("code", [errno.ENODEV, None])
def test_the_sensors_of_a_driver_that_was_bound_again_are_found_under_their_new_number(machine, made, code):
    folder = machine.gpu(FIRST, DISCRETE)
    collector = made([0])
    if code is not None:  # the driver is gone for one sample
        assert collector.collect()["gpu0/power_watts"] == 123.0
        machine.errors["power1_average"] = machine.errors["freq1_input"] = code
        collector.collect()
        assert "gone" in collector.errors["gpu0/power_watts"]
        machine.errors.clear()
    (folder / "hwmon/hwmon3").rename(folder / "hwmon/hwmon12")
    values = collector.collect()
    assert (values["gpu0/power_watts"], values["gpu0/clock_hertz"]) == (123.0, 2105e6)
    (source,) = (metric.source for metric in collector.metrics if metric.name == "gpu0/power_watts")
    assert source.endswith("/hwmon/hwmon12/power1_average")


def test_power_under_the_other_name_where_the_first_cannot_be_read(machine, made):
    machine.gpu(FIRST, {**DISCRETE, "hwmon/hwmon3/power1_input": "77000000"})
    machine.errors["power1_average"] = errno.EOPNOTSUPP
    collector = made([0])
    assert collector.collect()["gpu0/power_watts"] == 77.0
    source = next(metric.source for metric in collector.metrics if metric.name == "gpu0/power_watts")
    assert source.endswith("power1_input")


def test_text_that_is_no_number_is_missing(machine, made):
    machine.gpu(FIRST, {**DISCRETE, "gpu_busy_percent": "N/A"})
    collector = made([0])
    assert "gpu0/utilization_percent" not in collector.collect()
    assert "not supported" in collector.errors["gpu0/utilization_percent"]


def test_no_memory_of_its_own_has_no_share(machine, made):
    machine.gpu(FIRST, {**DISCRETE, "mem_info_vram_total": "0", "mem_info_vram_used": "0"})
    collector = made([0])
    assert "gpu0/memory_percent" not in collector.collect()
    assert "gpu0/memory_percent" in collector.errors


def test_a_driver_that_hangs_does_not_keep_the_others_waiting(machine, made, monkeypatch):
    monkeypatch.setattr(amd, "_ANSWER", 0.2)
    machine.gpu(FIRST, DISCRETE)
    answer = threading.Event()

    def hang(path: Path):
        if path.name == "gpu_busy_percent":
            answer.wait(10)
        return machine.open(path)

    collector = made([0], opener=hang)
    try:
        assert collector.collect() == {}
        assert collector.collect() == {}
        assert "has not answered for 0 s" in collector.errors["gpu0/utilization_percent"]
    finally:
        answer.set()
        collector.close()
        collector._thread._thread.join(5)


# -- in use ------------------------------------------------------------------------------------------------


def test_until_it_is_in_use_a_gpu_is_not_read_and_its_columns_are_missing(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.gpu(SECOND, MI300)
    collector = made()
    assert collector.collect() == {}
    assert machine.opened == []
    assert "no GPU in use yet" in collector.errors["gpu1/power_watts"]
    machine.opens(ME, SECOND, client=7, vram="2000000 KiB")
    values = collector.collect()
    assert {name.split("/")[0] for name in values} == {"gpu1"}
    assert "no GPU in use yet" in collector.errors["gpu0/power_watts"]


def test_opening_every_gpu_as_rocm_does_is_not_using_it(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.opens(ME, FIRST, client=7, vram="2048 KiB")
    assert made().collect() == {}


@pytest.mark.parametrize("size", ["2000000 KiB", "2000 MiB", "2 GiB", "2147483648"])
def test_memory_is_understood_in_every_unit(machine, made, size):
    machine.gpu(FIRST, DISCRETE)
    machine.opens(ME, FIRST, client=7, vram=size)
    assert made().collect()["gpu0/power_watts"] == 123.0


def test_memory_of_a_format_that_is_not_known_costs_nothing_else(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.opens(ME, FIRST, client=7, vram="N/A")
    machine.opens(ME, FIRST, client=8, vram="2 GiB")
    assert made().collect()["gpu0/power_watts"] == 123.0


def test_an_apu_is_in_use_when_it_holds_memory_of_the_machine(machine, made):
    machine.gpu(FIRST, APU)
    machine.opens(ME, FIRST, client=7, gtt="3000000 KiB")
    assert made().collect()["gpu0/power_watts"] == 15.0


def test_copies_of_an_open_file_hold_their_memory_once(machine, made):
    machine.gpu(FIRST, DISCRETE)
    for _ in range(4):
        machine.opens(ME, FIRST, client=7, vram="6000 KiB")
    assert made().collect() == {}
    machine.opens(ME, FIRST, client=8, vram="12000 KiB")
    assert made().collect() != {}


def test_what_children_use_counts(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.process(ME, children="70 ")
    machine.process(70, children="71 ")
    machine.process(71)
    machine.opens(71, FIRST, client=9, vram="2 GiB")
    assert made().collect()["gpu0/power_watts"] == 123.0


def test_what_a_descendant_uses_whose_parent_has_ended_counts(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.process(70, children="71 ")
    machine.process(71)
    machine.opens(71, FIRST, client=9, vram="9 MiB")
    machine.opens(71, FIRST, client=10, vram="8 MiB")
    assert made(members=lambda: (70, 71)).collect()["gpu0/power_watts"] == 123.0


def test_a_child_that_may_not_be_looked_at_does_no_harm(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.process(ME, children="70 ")  # hidden: it has no folder
    assert made().collect() == {}


def test_what_others_use_does_not_count(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.process(4242)
    machine.opens(4242, FIRST, client=9, vram="2 GiB")
    assert made().collect() == {}


def test_of_another_process_it_is_what_that_one_and_its_children_use(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.gpu(SECOND, DISCRETE)
    machine.opens(ME, FIRST, client=7, vram="2 GiB")
    machine.process(4242, children="4243 ")
    machine.process(4243)
    machine.opens(4243, SECOND, client=9, vram="2 GiB")
    values = made(root=4242).collect()
    assert {name.split("/")[0] for name in values} == {"gpu1"}


def test_a_card_of_another_driver_does_not_count(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.opens(ME, FIRST, client=9, vram="2 GiB", driver="i915")
    assert made().collect() == {}


def test_a_gpu_that_was_in_use_stays(machine, made):
    """Between two models the memory is given back; the charts go on."""
    machine.gpu(FIRST, DISCRETE)
    machine.opens(ME, FIRST, client=7, vram="2 GiB")
    collector = made()
    collector.collect()
    (machine.proc / str(ME) / "fd" / "0").unlink()
    assert collector.collect()["gpu0/power_watts"] == 123.0


def test_a_process_that_opens_nothing_is_looked_at_seldom(machine, made, monkeypatch):
    monkeypatch.setattr(in_use, "_SEARCH_EVERY", 2.0)
    machine.gpu(FIRST, DISCRETE)
    looks = []
    monkeypatch.setattr(in_use, "_render_nodes", lambda folder: looks.append(folder) or iter(()))
    collector = made()
    for _ in range(10):
        collector.collect()
    assert len(looks) == 1


# -- named, hidden, forbidden ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [1, "1", "GPU-00ff00ff00ff00ff"])
def test_a_named_gpu_is_in_use_because_the_user_says_so(machine, made, name):
    machine.gpu(FIRST, DISCRETE)
    machine.gpu(SECOND, MI300)
    collector = made([name], environment={"ROCR_VISIBLE_DEVICES": ""})
    assert {metric.where for metric in collector.metrics} == {"gpu1"}
    assert collector.collect()["gpu1/power_watts"] == 600.0


def test_a_gpu_that_does_not_exist_cannot_be_named(machine, made):
    machine.gpu(FIRST, DISCRETE)
    with pytest.raises(ValueError, match=r"there is no GPU 3 here, only 0 \(GPU-a1b2c3d4e5f60718\)"):
        made([3])


def test_hidden_gpus_have_no_columns(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.gpu(SECOND, MI300)
    collector = made(environment={"HIP_VISIBLE_DEVICES": "1"})
    assert {metric.where for metric in collector.metrics} == {"gpu1"}
    with pytest.raises(FileNotFoundError, match="hide"):
        made(environment={"ROCR_VISIBLE_DEVICES": ""})


def test_rocm_counts_in_the_order_of_its_own_nodes(machine, made):
    machine.gpu(FIRST, DISCRETE, node=5)
    machine.gpu(SECOND, MI300, node=2)
    collector = made(environment={"ROCR_VISIBLE_DEVICES": "0"})
    assert {metric.where for metric in collector.metrics} == {"gpu1"}


def test_each_partition_counts_in_the_environment(machine, made):
    machine.gpu(FIRST, MI300, partitions=4)
    machine.gpu(SECOND, DISCRETE)
    assert {metric.where for metric in made(environment={"HIP_VISIBLE_DEVICES": "3"}).metrics} == {"gpu0"}
    assert {metric.where for metric in made(environment={"HIP_VISIBLE_DEVICES": "4"}).metrics} == {"gpu1"}


def test_without_the_compute_driver_the_environment_hides_nothing(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.gpu(SECOND, MI300)
    for file in (machine.sys / "class/kfd/kfd/topology/nodes").glob("[12]/properties"):
        file.unlink()
    collector = made(environment={"HIP_VISIBLE_DEVICES": "1"})
    assert {metric.where for metric in collector.metrics} == {"gpu0", "gpu1"}


def test_a_gpu_that_the_container_was_not_given_has_no_columns(machine, made):
    """/sys shows the whole machine, /dev only what was given."""
    machine.gpu(FIRST, DISCRETE)
    machine.gpu(SECOND, MI300)
    (machine.dev / "dri/renderD128").unlink()
    assert {metric.where for metric in made().metrics} == {"gpu1"}


def test_a_gpu_that_may_not_be_opened_says_what_to_do(machine, made, monkeypatch):
    machine.gpu(FIRST, DISCRETE)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    collector = made()
    collector.collect()
    assert "member of its group (render or video)" in collector.errors["gpu0/power_watts"]


UUIDS = ["GPU-aa00000000000001", "GPU-aa00000000000002", "", "GPU-bb00000000000003"]


@pytest.mark.parametrize(
    ("rocr", "hip", "left"),
    [
        (None, "", (0, 1, 2, 3)),
        ("", "", ()),
        ("0,2", "", (0, 2)),
        ("3,1", "", (3, 1)),
        (" 1 , 2 ", "", (1, 2)),
        ("0,-1,2", "", (0,)),
        ("0,9,2", "", (0,)),
        ("0,1x,2", "", (0,)),
        ("0,,2", "", (0,)),
        ("0,1,1,2", "", (0, 1)),  # a duplicate ends the list
        ("0x1,2", "", (1, 2)),
        ("010", "", ()),  # octal 8
        ("GPU-BB,0", "", (3, 0)),
        ("gpu-bb", "", (3,)),
        ("GPU-aa", "", ()),  # of two
        ("GPU-aa00000000000002,GPU-cc,0", "", (1,)),
        ("GPU-", "", ()),
        ("0,1,2,3,0", "", (0, 1, 2, 3)),
        (None, "2,0", (2, 0)),
        (None, "1,1,0", (1, 0)),  # a duplicate is passed over
        (None, "0,4,1", (0,)),
        (None, "01", ()),
        (None, " 1", ()),
        (None, "-1", ()),
        (None, "GPU-bb00000000000003,0", (3, 0)),
        (None, "GPU-cc", ()),
        ("3,1,0", "1,2", (1, 0)),  # the second counts in what the first left
        ("3,1", "2", ()),
        ("", "0", ()),
    ],
)
def test_the_environment_is_read_by_rocms_own_rules(rocr, hip, left):
    assert visible_devices(rocr, hip, UUIDS) == left


def test_hip_falls_back_on_the_variable_of_cuda(machine, made):
    machine.gpu(FIRST, DISCRETE)
    machine.gpu(SECOND, MI300)
    setting = {"CUDA_VISIBLE_DEVICES": "1"}
    assert {metric.where for metric in made(environment=setting).metrics} == {"gpu1"}
    setting["HIP_VISIBLE_DEVICES"] = "0"
    assert {metric.where for metric in made(environment=setting).metrics} == {"gpu0"}


# -- beside the others -------------------------------------------------------------------------------------


def test_behind_nvidia_gpus_the_numbers_go_on(machine, made):
    machine.gpu(FIRST, DISCRETE)
    collector = made([2], first=2)
    assert collector.collect()["gpu2/power_watts"] == 123.0


def test_in_a_monitor_its_columns_stay_put_and_say_why_they_are_empty(machine, made):
    machine.gpu(FIRST, DISCRETE)
    with PerformanceMonitor([made()], interval=3600) as monitor:
        before = list(monitor.sample().values)
        assert "no GPU in use yet" in monitor.errors["gpu0/utilization_percent"]
        machine.opens(ME, FIRST, client=7, vram="2 GiB")
        sample = monitor.sample()
        assert list(sample.values) == before
        assert sample.values["gpu0/utilization_percent"] == 37.0
        frame = monitor.history
    assert frame.attrs["devices"] == {"gpu0": "Radeon RX 6900 XT"}
    assert frame.attrs["gpu0/power_watts"]["source"].endswith("power1_average")


def test_no_file_stays_open_and_no_thread_runs_when_it_is_closed(machine, made):
    machine.gpu(FIRST, DISCRETE)
    collector = made([0])
    collector.collect()
    collector.close()
    assert not any(thread.name == "perfmon-amd" for thread in threading.enumerate())
    assert collector.collect()["gpu0/power_watts"] == 123.0  # it may be asked again


# Only where the binding of a ROCm installation is there (the package of that name on PyPI is another's).
if importlib.util.find_spec("amdsmi") and Path("/opt/rocm").exists():

    def test_the_values_are_those_of_amdsmi():
        import amdsmi

        amdsmi.amdsmi_init()
        try:
            handles = {
                amdsmi.amdsmi_get_gpu_device_bdf(one): one for one in amdsmi.amdsmi_get_processor_handles()
            }
            gpus = known_gpus(Path("/sys"))
            collector = AmdCollector(list(range(len(gpus))))
            values = collector.collect()
            collector.close()
            for number, gpu in enumerate(gpus):
                usage = amdsmi.amdsmi_get_gpu_vram_usage(handles[gpu.pci])  # in MiB
                used, total = (
                    values[f"gpu{number}/memory_{which}_bytes"] / MIB for which in ("used", "limit")
                )
                assert total == pytest.approx(usage["vram_total"], abs=1)
                assert used == pytest.approx(usage["vram_used"], rel=0.05, abs=64)
                power = amdsmi.amdsmi_get_power_info(handles[gpu.pci])
                watts = [number for number in power.values() if isinstance(number, int)]
                assert any(
                    values[f"gpu{number}/power_watts"] == pytest.approx(one, rel=0.3, abs=10) for one in watts
                )
        finally:
            amdsmi.amdsmi_shut_down()
