"""What NVIDIA's driver and PyTorch say about this process on a GPU, and how long its clock was held back."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import nvidia as fakes

from perfmon_widgets.collectors import allowance
from perfmon_widgets.collectors.linux.processes import with_descendants
from perfmon_widgets.collectors.nvidia import collector as nvidia
from perfmon_widgets.collectors.nvidia import processes
from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector
from perfmon_widgets.collectors.nvidia.in_use import ordinals

ME = os.getpid()
MIB = 2**20
MEMORY, THROTTLED = "gpu0/process_memory_bytes", "gpu0/throttled_percent"
Make = Callable[..., NvidiaCollector]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree like /proc: this process, a child, a grandchild, and a process of somebody else."""
    fakes.process(tmp_path, ME, children="8000001", opened={})
    fakes.process(tmp_path, 8000001, children="8000002", opened={})
    fakes.process(tmp_path, 8000002, opened={})
    fakes.process(tmp_path, 77, opened={})
    return tmp_path


@pytest.fixture
def made(tree: Path) -> Make:
    """Makes collectors of GPU 0, and closes them."""
    all_made: list[NvidiaCollector] = []

    def make(gpus: object = (0,), **more: object) -> NvidiaCollector:
        all_made.append(NvidiaCollector(gpus, proc=tree, **more))
        return all_made[-1]

    yield make
    for one in all_made:
        one.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the monotonic clock; work costs no CPU time."""
    now = 1000.0

    def forward(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(nvidia.time, "monotonic", lambda: now)
    monkeypatch.setattr(allowance, "_SHARE", math.inf)
    return forward


# -- memory of this process --------------------------------------------------------------------------------


def test_descendants_are_all_below_a_process(tree: Path) -> None:
    assert with_descendants({ME}, tree) == {ME, 8000001, 8000002}
    assert with_descendants({77}, tree) == {77}
    assert with_descendants({77, 8000001}, tree) == {77, 8000001, 8000002}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"compute": f"{ME}:{3 * MIB} 8000002:{5 * MIB} 77:{900 * MIB}"}, 8 * MIB),
        ({"compute": "77:1"}, 0.0),
        # In both lists, with the same memory.
        ({"compute": f"{ME}:{3 * MIB}", "graphics": f"{ME}:{3 * MIB} 8000001:{MIB}"}, 4 * MIB),
        ({"compute": f"77:{9 * MIB}", "mps": f"8000001:{2 * MIB}"}, 2 * MIB),
        # More than fit, and more at each call.
        ({"compute": f"{ME}:{3 * MIB}", "growth": 1000}, 3 * MIB),
    ],
)
def test_memory_of_this_process_and_its_descendants(
    nvidia_machine: fakes.Machine, made: Make, lines: Mapping[str, object], expected: float
) -> None:
    nvidia_machine(fakes.gpu(0, **lines))
    collector = made()
    assert collector.collect()[MEMORY] == expected
    (metric,) = (metric for metric in collector.metrics if metric.name == MEMORY)
    assert metric.limit == "gpu0/memory_limit_bytes"


def test_memory_of_another_process(nvidia_machine: fakes.Machine, made: Make) -> None:
    nvidia_machine(fakes.gpu(0, compute=f"{ME}:1 8000001:{MIB} 8000002:{MIB}"))
    assert made(root=8000001).collect()[MEMORY] == 2 * MIB


def test_memory_of_a_descendant_whose_parent_has_ended(nvidia_machine: fakes.Machine, made: Make) -> None:
    nvidia_machine(fakes.gpu(0, compute=f"{ME}:1 77:{MIB} 78:{MIB}"))
    assert made(members=lambda: (77,)).collect()[MEMORY] == MIB + 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"compute": f"{ME}:none"}, "does not report the memory of single processes"),  # WSL, Windows
        ({}, "not supported"),
        ({"compute": f"77:1 {ME}:1", "wide": 1}, "layout of its own"),
        ({"compute": f"{ME}:1", "nvmlDeviceGetComputeRunningProcesses_v3": 4}, "not permitted"),
    ],
)
def test_memory_that_the_driver_does_not_report(
    nvidia_machine: fakes.Machine, made: Make, lines: Mapping[str, object], words: str
) -> None:
    nvidia_machine(fakes.gpu(0, **lines))
    collector = made()
    values = collector.collect()
    assert math.isnan(values[MEMORY])
    assert words in collector.errors[MEMORY]
    assert values["gpu0/power_watts"] == 150


def test_process_ids_that_mean_others(
    nvidia_machine: fakes.Machine, made: Make, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container an older driver has the ids of the machine: they may be those of a process here."""
    state = nvidia_machine(fakes.gpu(0, compute=f"{ME}:{MIB}"))
    state.set({"driver_version": "535.54.03"})
    collector = made()
    assert math.isnan(collector.collect()[MEMORY])
    assert "driver 535.54.03 does not translate" in collector.errors[MEMORY]
    state.set({"driver_version": "mock"})
    collector = made()
    assert math.isnan(collector.collect()[MEMORY])
    assert "version is not known" in collector.errors[MEMORY]
    # Outside of containers there is only one kind of ids.
    (tree / f"{ME}/ns").mkdir()
    (tree / f"{ME}/ns/pid").touch()
    (tree / "self").symlink_to(str(ME))
    monkeypatch.setattr(processes, "_MACHINE", (tree / "self/ns/pid").stat().st_ino)
    assert made().collect()[MEMORY] == MIB
    (tree / "self").unlink()
    (tree / "self").symlink_to("8000001")  # /proc of another namespace
    collector = made()
    collector.collect()
    assert "another PID namespace" in collector.errors[MEMORY]


def test_the_lists_of_processes_are_read_rarely(
    nvidia_machine: fakes.Machine, made: Make, clock: Callable[[float], None]
) -> None:
    state = nvidia_machine(fakes.gpu(0, compute=f"{ME}:{MIB}"))
    collector = made()
    collector.collect()
    state.set({"gpu0.compute": f"{ME}:{2 * MIB}"})
    clock(4.9)
    assert collector.collect()[MEMORY] == MIB
    clock(0.2)
    assert collector.collect()[MEMORY] == 2 * MIB
    assert len(state.calls("nvmlDeviceGetComputeRunningProcesses_v3")) == 2


# -- clocks held back --------------------------------------------------------------------------------------

SECOND = 10**9


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({74: 0}, {74: SECOND}, 50.0),
        (
            {74: 5 * SECOND, 251: 0, 252: 0, 253: 0},
            {74: 5.5 * SECOND, 251: 0.2 * SECOND, 253: 0.1 * SECOND},
            40,
        ),
        ({74: 0, 75: 0}, {75: SECOND}, 50.0),  # an older driver
        ({74: 0, 75: 0, 251: 0}, {75: SECOND, 251: SECOND}, 50.0),  # the same heat in two counters
        ({74: 0, 252: 0}, {74: 2 * SECOND, 252: 2 * SECOND}, 100.0),  # both reasons at the same time
        ({74: 3 * SECOND}, {}, 0.0),
    ],
)
def test_share_of_time_in_which_the_clock_was_held_back(
    nvidia_machine: fakes.Machine,
    made: Make,
    clock: Callable[[float], None],
    before: Mapping[int, float],
    after: Mapping[int, float],
    expected: float,
) -> None:
    state = nvidia_machine(fakes.gpu(0, **{f"field{field}": int(count) for field, count in before.items()}))
    collector = made()
    assert math.isnan(collector.collect()[THROTTLED])
    assert collector.errors[THROTTLED] == "a rate needs two readings"
    state.set({f"gpu0.field{field}": int(count) for field, count in after.items()})
    clock(2.0)
    assert collector.collect()[THROTTLED] == pytest.approx(expected)
    # The driver counts in steps: between two readings within a second the share stays.
    state.set({"gpu0.field74": 1000 * SECOND})
    clock(0.5)
    assert collector.collect()[THROTTLED] == pytest.approx(expected)
    clock(1.5)
    assert math.isnan(collector.collect()[THROTTLED])  # the counter has jumped
    assert "grown by more than the time" in collector.errors[THROTTLED]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({}, "not supported"),
        ({"field251": 1, "field252": 1}, "not supported"),  # without the power limit it would say too little
        ({"field74": 1, "narrow": 1}, "32 bits"),
    ],
)
def test_clocks_of_which_the_driver_does_not_report(
    nvidia_machine: fakes.Machine, made: Make, lines: Mapping[str, object], words: str
) -> None:
    nvidia_machine(fakes.gpu(0, **lines))
    collector = made()
    assert math.isnan(collector.collect()[THROTTLED])
    assert words in collector.errors[THROTTLED]


# -- PyTorch's allocator -----------------------------------------------------------------------------------


class Torch:
    """As the module torch, with what a process holds on each of CUDA's devices."""

    def __init__(self, held: Mapping[int, tuple[int, int, int]]) -> None:
        self.started = False
        self.asked: list[int] = []
        self.held = held
        self.cuda = SimpleNamespace(
            is_initialized=lambda: self.started, memory_stats_as_nested_dict=self._statistics
        )

    def _statistics(self, device: int) -> dict[str, dict[str, dict[str, int]]]:
        assert self.started, "asking now would start CUDA in older versions"
        self.asked.append(device)
        allocated, reserved, peak = self.held[device]
        return {
            "allocated_bytes": {"all": {"current": allocated, "peak": peak, "allocated": 0}},
            "reserved_bytes": {"all": {"current": reserved, "peak": reserved}},
        }


def of_torch(collector: NvidiaCollector, where: str) -> tuple[float, ...]:
    values = collector.collect()
    return tuple(values[f"{where}/torch_{kind}_bytes"] for kind in ("allocated", "reserved", "peak"))


def test_memory_of_pytorch(
    nvidia_machine: fakes.Machine,
    cuda_program: fakes.State,
    load_cuda: fakes.LoadCuda,
    made: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CUDA counts the GPUs in an order of its own."""
    nvidia_machine(fakes.gpu(0), fakes.gpu(1), fakes.gpu(2))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    collector = made([0, 1, 2])
    assert all(map(math.isnan, of_torch(collector, "gpu0")))
    assert "not imported" in collector.errors["gpu0/torch_peak_bytes"]
    assert "torch" not in sys.modules
    torch = Torch({0: (30, 40, 50), 1: (10, 20, 15)})
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert all(map(math.isnan, of_torch(collector, "gpu0")))
    assert "not used CUDA" in collector.errors["gpu0/torch_peak_bytes"]
    torch.started = True
    library = load_cuda()
    assert ordinals(library) == {}  # cuInit ends the process in this library
    cuda_program.set({"initialised": 1, "count": 2} | fakes.context(0, 1, active=1) | fakes.context(1, 0))
    assert ordinals(library) == {fakes.identity(1): 0, fakes.identity(0): 1}
    assert of_torch(collector, "gpu0") == (10, 20, 15)
    assert of_torch(collector, "gpu1") == (30, 40, 50)
    assert all(map(math.isnan, of_torch(collector, "gpu2")))
    assert "does not show this GPU" in collector.errors["gpu2/torch_peak_bytes"]
    torch.held = {0: (35, 40, 60), 1: (0, 0, 20)}
    assert of_torch(collector, "gpu1") == (35, 40, 60)
    monkeypatch.delitem(sys.modules, "torch")
    assert all(map(math.isnan, of_torch(collector, "gpu1")))


def test_a_pytorch_that_cannot_be_asked(
    nvidia_machine: fakes.Machine,
    cuda_program: fakes.State,
    load_cuda: fakes.LoadCuda,
    made: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is still being imported, or has an allocator that counts nothing."""
    nvidia_machine(fakes.gpu(0))
    library = load_cuda()
    cuda_program.set({"initialised": 1, "count": 1} | fakes.context(0, 0, active=1))
    assert len(ordinals(library)) == 1
    collector = made([0])

    def refuse(device: int) -> object:
        raise RuntimeError("not supported by this allocator")

    started = SimpleNamespace(is_initialized=lambda: True)
    for torch in (
        SimpleNamespace(),
        SimpleNamespace(cuda=started),
        SimpleNamespace(
            cuda=SimpleNamespace(is_initialized=lambda: True, memory_stats_as_nested_dict=refuse)
        ),
        SimpleNamespace(
            cuda=SimpleNamespace(is_initialized=lambda: True, memory_stats_as_nested_dict=lambda device: {})
        ),
    ):
        monkeypatch.setitem(sys.modules, "torch", torch)
        assert all(map(math.isnan, of_torch(collector, "gpu0")))
        assert "does not report its memory" in collector.errors["gpu0/torch_reserved_bytes"]
        assert collector.collect()["gpu0/power_watts"] == 150
