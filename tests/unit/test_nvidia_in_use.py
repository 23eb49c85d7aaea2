"""Which NVIDIA GPUs are in use: by CUDA's rules, in this process, in its children; then all together."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import nvidia as fakes
from hypothesis import example, given
from hypothesis import strategies as st

from perfmon_widgets.collectors.nvidia import in_use, processes
from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector
from perfmon_widgets.collectors.nvidia.gpus import Gpu, Visible, known_gpus, visible_devices
from perfmon_widgets.collectors.nvidia.in_use import Search, Used
from perfmon_widgets.collectors.nvidia.numbering import Numbering

ME = os.getpid()
ALIKE = [Gpu(f"0000:0{number}:00.0", number, f"GPU-{number}aaa", "A100") for number in range(4)]
DIFFERENT = [Gpu(gpu.pci, gpu.minor, gpu.uuid, f"model {gpu.minor}") for gpu in ALIKE]
UNKNOWN = [Gpu()] * 4
TWINS = [Gpu("", 0, "GPU-12ab", "T4"), Gpu("", 1, "GPU-12cd", "T4")]


# CUDA_VISIBLE_DEVICES


@pytest.mark.parametrize(
    ("text", "gpus", "expected"),
    [
        (None, ALIKE, (0, 1, 2, 3)),
        ("", ALIKE, ()),
        (" ", ALIKE, ()),
        ("2", ALIKE, (2,)),
        ("3,1", ALIKE, (3, 1)),
        (" 1 , 2 ", ALIKE, (1, 2)),
        ("0,2,-1,1", ALIKE, (0, 2)),  # the example of the CUDA Programming Guide
        ("-1", ALIKE, ()),
        ("0,4,1", ALIKE, (0,)),  # there is no GPU 4
        ("none", ALIKE, ()),
        ("1gpu2,2ampere", ALIKE, (1, 2)),  # as strtoul reads it
        ("+1,02", ALIKE, (1, 2)),
        ("0,,1", ALIKE, (0,)),
        ("0,1,", ALIKE, (0, 1)),
        ("1,2,1", ALIKE, ()),  # a duplicate empties it
        ("1,9,1", ALIKE, (1,)),  # but not behind the end
        ("1,GPU-2aaa", ALIKE, (1,)),
        ("GPU-2aaa", ALIKE, (2,)),
        ("GPU-3,GPU-0aa", ALIKE, (3, 0)),
        ("GPU-3,1", ALIKE, (3,)),
        ("GPU-9,GPU-1", ALIKE, ()),
        ("GPU-1,GPU-1aaa", ALIKE, ()),
        ("GPU-12a", TWINS, (0,)),
        ("GPU-12", TWINS, ()),  # could be either
        ("GPU-12cd,GPU-12", TWINS, (1,)),
        ("gpu-1", ALIKE, ()),
        ("0,18446744073709551616", ALIKE, (0,)),  # above what strtoul can hold
        ("0001", ALIKE, (1,)),
        ("\u0661", ALIKE, ()),  # a digit, but none that strtoul knows
    ],
)
def test_visible_devices(text: str | None, gpus: list[Gpu], expected: tuple[int, ...]) -> None:
    assert visible_devices(text, gpus) == Visible(expected)


@pytest.mark.parametrize(
    ("text", "gpus", "order", "certain"),
    [
        ("1", ALIKE, "", True),
        ("1", DIFFERENT, "", False),  # CUDA's 1 is the second fastest
        ("1", DIFFERENT, "FASTEST_FIRST", False),
        ("1", DIFFERENT, "PCI_BUS_ID", True),
        ("1", UNKNOWN, "", False),
        ("0", UNKNOWN[:1], "", True),
        ("3,2,1,0", DIFFERENT, "", True),  # all of them, in whatever order
        ("", DIFFERENT, "", True),
        ("GPU-1", DIFFERENT, "", True),
        ("GPU-1", UNKNOWN, "", False),
    ],
)
def test_visible_devices_that_can_be_trusted(text: str, gpus: list[Gpu], order: str, certain: bool) -> None:
    assert visible_devices(text, gpus, order).certain is certain


@pytest.mark.parametrize(
    ("text", "gpus", "expected"),
    [
        ("MIG-5", ALIKE[:1], Visible((0,), True, "MIG-5")),
        ("MIG-5,MIG-6", ALIKE, Visible((), False, "MIG-5")),  # its GPU is not known here
        ("MIG-GPU-2aaa/3/0,MIG-6", ALIKE, Visible((2,), True, "MIG-GPU-2aaa/3/0")),
        ("MIG-", UNKNOWN, Visible((), False, "MIG-")),  # a GPU without a known UUID has not an empty one
    ],
)
def test_visible_slice(text: str, gpus: list[Gpu], expected: Visible) -> None:
    assert visible_devices(text, gpus) == expected


MACHINES = st.sampled_from([ALIKE, DIFFERENT, UNKNOWN, TWINS, ALIKE[:1], []])
# Of parts that mean something, and of anything.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.lists(
        st.sampled_from(
            ["0", "1", "3", "-1", "+", " ", ",", ",,", "GPU-", "GPU-1", "MIG-", "MIG-GPU-2aaa/3/0", "x"]
        )
    ).map("".join),
)


@given(TEXTS, MACHINES, st.sampled_from(["", "PCI_BUS_ID", "FASTEST_FIRST"]))
@example("9" * 5000, ALIKE, "")
def test_whatever_is_set_leaves_some_of_the_gpus_each_once(text: str, gpus: list[Gpu], order: str) -> None:
    visible = visible_devices(text, gpus, order)
    assert set(visible.indices) <= set(range(len(gpus)))
    assert len(set(visible.indices)) == len(visible.indices)


@given(st.permutations(range(4)), st.integers(0, 4), st.data())
def test_what_was_meant_is_what_is_visible(order: list[int], count: int, data: st.DataObject) -> None:
    """Each GPU written in one of the ways that CUDA reads, the numbers apart from the UUIDs."""
    chosen = order[:count]
    spaces = st.text(" \t", max_size=2)
    for written in ("{}", "+{}", "00{}", "GPU-{}aaa", "GPU-{}"):
        entries = [data.draw(spaces) + written.format(index) + data.draw(spaces) for index in chosen]
        assert visible_devices(",".join(entries), ALIKE) == Visible(tuple(chosen))
        # What stands behind the first entry that is no device does not count.
        assert visible_devices(",".join([*entries, "-1", "0"]), ALIKE) == Visible(tuple(chosen))


def test_known_gpus(tmp_path: Path) -> None:
    proc = fakes.driver_list(
        tmp_path, fakes.gpu(0), fakes.gpu(1, uuid="GPU-????????-????-????-????-????????????")
    )
    assert known_gpus(proc) == [
        Gpu("0000:01:00.0", 0, f"GPU-{fakes.identity(0)}", "NVIDIA Fake"),
        Gpu("0000:02:00.0", 1, "", "NVIDIA Fake"),
    ]
    file = tmp_path / "driver/nvidia/gpus/0000:01:00.0/information"
    text = file.read_text()
    file.write_text(text.replace("Minor: \t 0", "Minor: \t N/A"))
    assert [gpu.minor for gpu in known_gpus(proc)] == [-1, 1]
    file.write_text(text.replace("No", "Yes"))
    assert [gpu.minor for gpu in known_gpus(proc)] == [1]
    assert known_gpus(tmp_path / "nowhere") == []


# This process


def test_frameworks_where_cuda_cannot_be_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    started = False
    torch_cuda = SimpleNamespace(
        is_initialized=lambda: started,
        device_count=lambda: 2,
        memory_reserved=lambda number: number * 4096,
        get_device_properties=lambda number: SimpleNamespace(uuid=f"{number}aaa"),
    )
    torch = SimpleNamespace(cuda=torch_cuda, version=SimpleNamespace(cuda="12.4"))
    bridge = SimpleNamespace(backends_are_initialized=lambda: started)

    def local_devices(backend: str) -> list[SimpleNamespace]:
        assert started, "asking now would start JAX"
        return [SimpleNamespace(local_hardware_id=number) for number in (0, 1)]

    modules: dict[str, Any] = {}

    def look() -> list[Used]:
        return Search(ALIKE, proc=tmp_path, library=lambda: None, modules=modules).look()

    assert look() == []
    modules |= {
        "torch": torch,
        "jax._src.xla_bridge": bridge,
        "jax": SimpleNamespace(local_devices=local_devices),
    }
    assert look() == []
    started = True
    torch_found = Used("PyTorch holds memory on it", certain=False, uuid="1aaa")
    jax_found = [Used("JAX started on it", certain=False, index=index) for index in (3, 1)]
    assert look() == [torch_found, *jax_found]
    torch.version.cuda = None  # PyTorch for AMD has the same names
    assert look() == jax_found
    modules["torch"] = modules["jax"] = SimpleNamespace()  # still being imported
    assert look() == []


# Its children


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Which of four GPUs the children in the tree at tmp_path seem to use."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def look() -> list[int]:
        found = Search(ALIKE, proc=tmp_path, library=lambda: None, modules={}).look()
        assert not any(used.certain for used in found)
        return [used.index for used in found if used.how == "a child process has it open"]

    return look


UVM = {3: "/dev/nvidiactl", 4: "/dev/nvidia-uvm"}


def test_child_with_cuda(tmp_path: Path, children: Callable[[], list[int]]) -> None:
    fakes.process(tmp_path, os.getpid(), children="8000001 8000002", opened={})
    fakes.process(tmp_path, 8000001, opened={1: "/dev/null", 2: "socket:[1]"})
    fakes.process(tmp_path, 8000002, children="8000003", opened={})
    fakes.process(tmp_path, 8000003, opened=UVM | {5: "/dev/nvidia2", 6: "/dev/nvidia2"})
    assert children() == [2]


@pytest.mark.parametrize("number", [ME, 8000001], ids=["itself", "a child"])
def test_a_process_that_uses_the_graphics_or_a_context_of_its_own(tmp_path: Path, number: int) -> None:
    """PyCUDA, OpenCL, Vulkan: there is no primary context, but the files of the GPU are open."""
    fakes.process(tmp_path, ME, children="8000001", opened=UVM | {5: "/dev/nvidia2"} if number == ME else {})
    fakes.process(tmp_path, 8000001, opened=UVM | {6: "/dev/nvidia2"} if number != ME else {})
    (used,) = Search(ALIKE, proc=tmp_path, library=lambda: None, modules={}).look()
    assert used.index == 2
    assert not used.certain
    assert used.how == ("this process has it open" if number == ME else "a child process has it open")


def test_this_process_is_not_guessed_about_when_cuda_reports_its_contexts(
    tmp_path: Path, cuda_program: fakes.State, load_cuda: fakes.LoadCuda
) -> None:
    """CUDA opens every GPU that it may see."""
    cuda_program.set({"initialised": 1, "count": 2} | fakes.context(0, 0, active=1) | fakes.context(1, 1))
    fakes.process(tmp_path, ME, opened=UVM | {5 + number: f"/dev/nvidia{number}" for number in range(4)})
    (used,) = Search(ALIKE, proc=tmp_path, library=load_cuda, modules={}).look()
    assert used.certain
    assert used.pci == "0000:01:00.0"


@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow", "cupy"])
def test_a_framework_that_has_only_counted_the_gpus_uses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framework: str
) -> None:
    """``torch.cuda.is_available()`` opens every GPU. Where the driver can say who uses one, it is asked."""
    now = 1000.0
    monkeypatch.setattr(in_use.time, "monotonic", lambda: now)
    monkeypatch.setattr(in_use.time, "thread_time", lambda: 0.0)
    asked: list[int] = []
    answers: dict[int, bool | None] = {0: None, 1: False}

    def listed(index: int, process: int) -> bool | None:
        assert process == ME
        asked.append(index)
        return answers[index]

    fakes.process(tmp_path, ME, opened=UVM | {5: "/dev/nvidia0", 6: "/dev/nvidia1"})
    modules: dict[str, Any] = {framework: SimpleNamespace()}
    search = Search(ALIKE, proc=tmp_path, library=lambda: None, modules=modules, listed=listed)
    assert search.look() == []
    answers[1] = True
    now += 6
    assert search.look() == []
    assert asked == [0, 1]  # the answers cost milliseconds
    now += 60
    assert [used.index for used in search.look()] == [1]
    modules.clear()
    now += 6
    assert [used.index for used in search.look()] == [0, 1]


def test_this_process_only_watches_gpus_without_the_memory_of_cuda(tmp_path: Path) -> None:
    """NVML opens the GPUs too, here and in other packages."""
    fakes.process(tmp_path, ME, opened={3: "/dev/nvidiactl", 5: "/dev/nvidia0", 6: "/dev/nvidia1"})
    assert Search(ALIKE, proc=tmp_path, library=lambda: None, modules={}).look() == []


@pytest.mark.parametrize(
    ("maps", "found"), [("7f00 /usr/lib/wsl/lib/libcuda.so.1", [0]), ("7f00 libc.so", [])]
)
def test_wsl_has_one_file_for_all_gpus(
    tmp_path: Path,
    children: Callable[[], list[int]],
    maps: str,
    found: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NVML opens the same file, so CUDA must be loaded, too."""
    fakes.process(tmp_path, ME, children="8000001", opened={3: "/dev/dxg"})
    fakes.process(tmp_path, 8000001, opened={5: "/dev/dxg"}, environment="CUDA_VISIBLE_DEVICES=0")
    (tmp_path / "8000001/maps").write_text(maps)
    (tmp_path / f"{ME}/maps").write_text("7f00 libnvidia-ml.so.1")
    assert children() == found


def test_another_process_is_looked_at_from_outside_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def library() -> None:
        raise AssertionError("what this process has loaded says nothing about another one")

    fakes.process(tmp_path, os.getpid(), children="8000001 8000004", opened={})
    fakes.process(tmp_path, 8000001, children="8000002", opened=UVM | {5: "/dev/nvidia1"})
    fakes.process(
        tmp_path, 8000002, opened=UVM | {5: "/dev/nvidia1", 7: "/dev/nvidia-uvm", 8: "/dev/nvidia3"}
    )
    fakes.process(tmp_path, 8000004, opened=UVM | {5: "/dev/nvidia0"})
    search = Search(ALIKE, root=8000001, proc=tmp_path, library=library, modules={})
    assert [used.index for used in search.look()] == [1, 3]


def test_child_that_only_watches(tmp_path: Path, children: Callable[[], list[int]]) -> None:
    fakes.process(tmp_path, os.getpid(), children="8000001", opened={})
    fakes.process(
        tmp_path, 8000001, opened={3: "/dev/nvidiactl"} | {5 + n: f"/dev/nvidia{n}" for n in range(4)}
    )
    assert children() == []


def test_child_limited_by_its_environment(tmp_path: Path, children: Callable[[], list[int]]) -> None:
    fakes.process(tmp_path, os.getpid(), children="8000001", opened={})
    everything = UVM | {5 + number: f"/dev/nvidia{number}" for number in range(4)}
    fakes.process(tmp_path, 8000001, opened=everything, environment="HOME=/ CUDA_VISIBLE_DEVICES=1,3")
    assert children() == [1, 3]


def test_child_on_a_slice(tmp_path: Path) -> None:
    fakes.process(tmp_path, os.getpid(), children="8000001", opened={})
    fakes.process(
        tmp_path, 8000001, opened=UVM | {5: "/dev/nvidia0"}, environment="CUDA_VISIBLE_DEVICES=MIG-5"
    )
    found = Search(ALIKE, proc=tmp_path, library=lambda: None, modules={}).look()
    assert found == [Used("a child process has it open", certain=False, uuid="MIG-5")]


def test_what_a_fork_inherits_is_not_used(tmp_path: Path, children: Callable[[], list[int]]) -> None:
    everything = UVM | {5 + number: f"/dev/nvidia{number}" for number in range(4)}
    fakes.process(tmp_path, os.getpid(), children="8000001", opened=everything)
    fakes.process(tmp_path, 8000001, children="8000002", opened=everything)
    fakes.process(tmp_path, 8000002, opened=everything | {9: "/dev/nvidia-uvm", 10: "/dev/nvidia1"})
    assert children() == [1]


def test_a_descendant_whose_parent_has_ended_counts_with_what_it_has_opened_itself(tmp_path: Path) -> None:
    """``os.system("nohup python train.py &")``: its parent now is init, and no child of ours."""
    inherited = UVM | {5: "/dev/nvidia0"}
    fakes.process(tmp_path, ME, children="8000001", opened=inherited)
    fakes.process(tmp_path, 8000001, opened=inherited)
    fakes.process(tmp_path, 8000002, children="8000003", opened=inherited | {9: "/dev/nvidia1"})
    forked = inherited | {9: "/dev/nvidia1", 10: "/dev/nvidia-uvm", 11: "/dev/nvidia2"}
    fakes.process(tmp_path, 8000003, opened=forked)
    fakes.process(tmp_path, 8000004, opened=inherited)
    search = Search(
        ALIKE,
        members=lambda: (8000001, 8000002, 8000003, 8000004, 8000005),
        proc=tmp_path,
        library=lambda: None,
        modules={"torch": SimpleNamespace()},
        listed=lambda index, process: None,
    )
    assert [used.index for used in search.look()] == [2]


def test_children_are_looked_at_rarely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(in_use.time, "monotonic", lambda: now)
    monkeypatch.setattr(in_use.time, "thread_time", lambda: 0.0)
    search = Search(ALIKE, proc=tmp_path, library=lambda: None, modules={})
    assert search.look() == []
    fakes.process(tmp_path, os.getpid(), children="8000001", opened={})
    fakes.process(tmp_path, 8000001, opened=UVM | {5: "/dev/nvidia2"})
    now += 4.9
    assert search.look() == []
    now += 0.2
    assert [used.index for used in search.look()] == [2]


# All of it together


def wheres(collector: NvidiaCollector) -> list[str]:
    return list(dict.fromkeys(metric.where for metric in collector.metrics))


def read(collector: NvidiaCollector) -> set[str]:
    """Where there are numbers."""
    return {name.split("/")[0] for name, value in collector.collect().items() if not math.isnan(value)}


def test_slice_in_use(
    nvidia_machine: fakes.Machine, cuda_program: fakes.State, nvidia_collector: fakes.MakeCollector
) -> None:
    slices = {
        f"gpu1mig{number}.{key}": value
        for number in (0, 1)
        for key, value in {
            "uuid": f"MIG-{fakes.identity(100 + number)}",
            "name": "NVIDIA Fake MIG 1g.10gb",
            "gi": number,
            "total": 8 * 2**30,
            "used": (number + 1) * 2**30,
        }.items()
    }
    nvidia_machine(fakes.gpu(0), fakes.gpu(1, mig=1) | slices)
    cuda_program.set({"initialised": 1, "count": 1} | fakes.context(0, 1, active=1))
    cuda_program.set({"device0.uuid": fakes.identity(101).replace("-", "")})
    monitor = nvidia_collector()
    values = monitor.collect()
    assert values["gpu1/memory_used_bytes"] == 2 * 2**30
    assert math.isnan(values["gpu1/utilization_percent"])
    assert monitor.errors["gpu1/utilization_percent"] == "not reported for MIG slices"
    monitor.close()


def test_visible_devices_limit_the_columns(
    nvidia_machine: fakes.Machine,
    cuda_program: fakes.State,
    nvidia_collector: fakes.MakeCollector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpus = [fakes.gpu(number) for number in range(4)]
    driver = nvidia_machine(*gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    # Unless the driver lists what GPUs these are, the numbers may mean others.
    assert wheres(nvidia_collector()) == ["gpu0", "gpu1", "gpu2", "gpu3"]
    fakes.driver_list(tmp_path, *gpus)
    monitor = nvidia_collector()
    assert wheres(monitor) == ["gpu1", "gpu3"]
    assert monitor.metrics[0].device == f"NVIDIA Fake (GPU-{fakes.identity(1)})"
    assert read(monitor) == set()  # visible is not in use
    assert not driver.calls("attach")
    # The variable was changed before CUDA was started.
    cuda_program.set({"initialised": 1, "count": 1} | fakes.context(0, 2, active=1))
    assert read(monitor) == set()
    assert "also uses GPU 2" in monitor.errors["gpu1/power_watts"]
    monitor.close()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(FileNotFoundError, match="CUDA_VISIBLE_DEVICES hides every GPU"):
        nvidia_collector()


def test_a_guess_is_labelled(
    nvidia_machine: fakes.Machine,
    cuda_program: fakes.State,
    nvidia_collector: fakes.MakeCollector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpus = [fakes.gpu(number) for number in range(2)]
    nvidia_machine(*gpus)
    fakes.driver_list(tmp_path, *gpus)
    fakes.process(tmp_path, os.getpid(), children="8000001", opened={})
    fakes.process(tmp_path, 8000001, opened=UVM | {5: "/dev/nvidia1"})
    monitor = nvidia_collector()
    assert read(monitor) == {"gpu1"}
    label = next(metric.device for metric in monitor.metrics if metric.where == "gpu1")
    assert label.endswith(", likely in use: a child process has it open")
    # Sure once this process uses it too.
    cuda_program.set({"initialised": 1, "count": 1} | fakes.context(0, 1, active=1))
    assert read(monitor) == {"gpu1"}
    assert not any("likely" in metric.device for metric in monitor.metrics)
    monitor.close()


def slurm(nvidia_machine: fakes.Machine, proc: Path, *granted: int, lists: bool = True) -> fakes.State:
    """A node with eight GPUs, of which NVML shows only those of the job, counted from 0."""
    node = [fakes.gpu(number) for number in range(8)]
    if lists:
        fakes.driver_list(proc, *node)
    return nvidia_machine(
        *(
            {key.replace(f"gpu{number}.", f"gpu{index}."): value for key, value in node[number].items()}
            for index, number in enumerate(granted)
        )
    )


@pytest.mark.parametrize("granted", [(5,), (4, 5), (1, 3, 6), tuple(range(8))])
@pytest.mark.parametrize("lists", [True, False])
def test_the_gpus_of_a_batch_job_are_found_on_their_numbers(
    nvidia_machine: fakes.Machine,
    tmp_path: Path,
    granted: tuple[int, ...],
    lists: bool,
) -> None:
    """Slurm with ConstrainDevices: /proc lists all GPUs of the node, or (in some containers) none."""
    driver = slurm(nvidia_machine, tmp_path, *granted, lists=lists)
    fakes.process(tmp_path, ME, children="8000001", opened={})
    fakes.process(tmp_path, 8000001, opened={})
    monitor = NvidiaCollector(proc=tmp_path)
    assert read(monitor) == set()
    assert not driver.calls("attach")  # a GPU that nobody uses is left alone
    monitor.close()
    monitor = NvidiaCollector(proc=tmp_path)
    opened = UVM | {5: f"/dev/nvidia{granted[-1]}"}
    for descriptor, path in opened.items():
        (tmp_path / "8000001/fd" / str(descriptor)).symlink_to(path)
    assert read(monitor) == {f"gpu{len(granted) - 1}"}
    monitor.close()


@pytest.mark.parametrize(("setting", "found"), [("0", {"gpu0"}), ("1", {"gpu1"}), ("1,0", {"gpu0", "gpu1"})])
def test_the_numbers_in_a_jobs_environment_count_its_own_gpus(
    nvidia_machine: fakes.Machine,
    tmp_path: Path,
    setting: str,
    found: set[str],
) -> None:
    slurm(nvidia_machine, tmp_path, 4, 5)
    fakes.process(tmp_path, ME, children="8000001", opened={})
    both = UVM | {5: "/dev/nvidia4", 6: "/dev/nvidia5"}
    fakes.process(tmp_path, 8000001, opened=both, environment=f"CUDA_VISIBLE_DEVICES={setting}")
    monitor = NvidiaCollector(proc=tmp_path)
    assert read(monitor) == found
    monitor.close()


@pytest.mark.parametrize(
    ("lines", "version", "found"),
    [
        ({}, "575.57.08", set()),
        ({"gpu1.compute": f"77:9 {ME}:1048576"}, "575.57.08", {"gpu1"}),
        ({"gpu1.graphics": f"{ME}:1048576"}, "575.57.08", {"gpu1"}),  # Vulkan
        ({"gpu1.mps": f"{ME}:1048576"}, "575.57.08", {"gpu1"}),
        ({}, "535.54.03", {"gpu0", "gpu1"}),  # its process ids may be those of the machine
    ],
)
def test_the_drivers_lists_of_processes_decide_what_open_files_only_suggest(
    nvidia_machine: fakes.Machine,
    tmp_path: Path,
    lines: dict[str, object],
    version: str,
    found: set[str],
) -> None:
    """``torch.cuda.is_available()`` opens every GPU, and uses none."""
    gpus = [fakes.gpu(number, compute="77:1048576") for number in range(2)]
    nvidia_machine(*gpus).set({"driver_version": version} | lines)
    fakes.driver_list(tmp_path, *gpus)
    fakes.process(tmp_path, ME, opened=UVM | {5: "/dev/nvidia0", 6: "/dev/nvidia1"})
    monitor = NvidiaCollector(proc=tmp_path)
    assert read(monitor) == found
    monitor.close()


def test_a_lost_gpu_that_is_no_longer_listed_leaves_the_others_their_numbers(
    nvidia_machine: fakes.Machine, tmp_path: Path
) -> None:
    """NVML still counts it, the driver's list in /proc does not."""
    gpus = [fakes.gpu(number) for number in range(3)]
    nvidia_machine(*gpus).set({"gpu1.attach": 15})
    fakes.driver_list(tmp_path, *gpus)
    lost = tmp_path / "driver/nvidia/gpus/0000:02:00.0"
    (lost / "information").unlink()
    lost.rmdir()
    fakes.process(tmp_path, ME, children="8000001", opened={})
    fakes.process(tmp_path, 8000001, opened=UVM | {5: "/dev/nvidia2"})
    monitor = NvidiaCollector(proc=tmp_path)
    assert read(monitor) == {"gpu2"}
    assert "no GPU in use yet" in monitor.errors["gpu0/power_watts"]
    assert "lost" in monitor.errors["gpu1/power_watts"]
    monitor.close()


@pytest.mark.parametrize(
    "used",
    [
        Used("", pci="0000:C1:00.0"),
        Used("", pci="0000:c1:00.0"),
        Used("", uuid=fakes.identity(1)),
        Used("", uuid=f"GPU-{fakes.identity(1).upper()}"),
        Used("", uuid=f"MIG-GPU-{fakes.identity(1)}/1/0"),
    ],
)
def test_a_gpu_is_found_without_nvml_by_its_address_or_uuid_however_these_are_written(
    tmp_path: Path, used: Used
) -> None:
    """CUDA has addresses in capitals, and UUIDs without a prefix."""
    fakes.driver_list(tmp_path, fakes.gpu(0, pci="0000:B1:00.0"), fakes.gpu(1, pci="0000:c1:00.0"))
    numbering = Numbering(None, 2, tmp_path)
    assert numbering.of(used) == 1
    assert numbering.of(Used("", pci="0000:D1:00.0", uuid=fakes.identity(7))) == -1


def test_lists_of_processes_are_read_once_and_not_of_a_gpu_that_is_read_already(
    nvidia_machine: fakes.Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight ranks that have eight GPUs open would ask 64 times."""
    now = 100.0
    monkeypatch.setattr(in_use.time, "monotonic", lambda: now)
    monkeypatch.setattr(in_use.time, "thread_time", lambda: 0.0)
    ranks = [8000001 + number for number in range(3)]
    gpus = [fakes.gpu(0, compute=f"{ranks[0]}:1"), fakes.gpu(1, compute="77:1")]
    driver = nvidia_machine(*gpus)
    fakes.driver_list(tmp_path, *gpus)
    fakes.process(tmp_path, ME, children=" ".join(map(str, ranks)), opened={})
    for rank in ranks:
        fakes.process(tmp_path, rank, opened=UVM | {5: "/dev/nvidia0", 6: "/dev/nvidia1"})
    monitor = NvidiaCollector(proc=tmp_path)
    monkeypatch.setattr(processes.ProcessMemory, "take", lambda self: (0.0,))
    assert read(monitor) == {"gpu0"}
    assert driver.calls("nvmlDeviceGetComputeRunningProcesses_v3") == ["gpu0", "gpu1"]
    now += 6
    driver.set({"gpu1.compute": f"{ranks[2]}:1"})
    assert read(monitor) == {"gpu0", "gpu1"}
    assert driver.calls("nvmlDeviceGetComputeRunningProcesses_v3") == ["gpu0", "gpu1", "gpu1"]
    now += 6
    read(monitor)
    assert len(driver.calls("nvmlDeviceGetComputeRunningProcesses_v3")) == 3
    monitor.close()


def test_gpu_in_use_that_cannot_be_attached(
    nvidia_machine: fakes.Machine, cuda_program: fakes.State, nvidia_collector: fakes.MakeCollector
) -> None:
    driver = nvidia_machine(fakes.gpu(0))
    driver.set({"gpu0.attach": 15})
    cuda_program.set({"initialised": 1, "count": 1} | fakes.context(0, 0, active=1))
    monitor = nvidia_collector()
    assert read(monitor) == set()
    assert "lost" in monitor.errors["gpu0/power_watts"]
    driver.set({"gpu0.attach": None})
    assert read(monitor) == {"gpu0"}
    monitor.close()
