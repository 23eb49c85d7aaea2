"""Which GPUs real programs use, by a compiled stand-in for CUDA's library."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import nvidia as fakes
from fakes import programs

from perfmon_widgets.collectors.linux import processes
from perfmon_widgets.collectors.nvidia import in_use
from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector
from perfmon_widgets.collectors.nvidia.gpus import Gpu, known_gpus
from perfmon_widgets.collectors.nvidia.in_use import Search, Used, primary_contexts

ALIKE = [Gpu(f"0000:0{number}:00.0", number, f"GPU-{number}aaa", "A100") for number in range(4)]


# This process


@pytest.fixture(scope="session")
def cuda_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.compiled("cuda.c", "libcuda.so.1", tmp_path_factory.mktemp("cuda") / "library")


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.compiled("nvml.c", "libnvidia-ml.so.1", tmp_path_factory.mktemp("nvml") / "library")


def context(device: int, gpu: int, *, active: int = 0) -> dict[str, object]:
    """State lines of the fake CUDA: its device ``device`` is GPU ``gpu``."""
    return {
        f"device{device}.active": active,
        f"device{device}.pci": f"0000:{gpu + 1:02x}:00.0",
        f"device{device}.uuid": fakes.identity(gpu).replace("-", ""),
    }


@pytest.fixture
def program(cuda_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fakes.State:
    """What this process does with CUDA; it has not begun."""
    state = fakes.State(tmp_path / "cuda.txt", {"count": 0})
    monkeypatch.setenv("PERFMON_FAKE_CUDA", str(state.path))
    return state


@pytest.fixture
def library(cuda_library: Path) -> Callable[[], ctypes.CDLL]:
    return lambda: ctypes.CDLL(str(cuda_library))


def test_primary_contexts(program: fakes.State, library: Callable[[], ctypes.CDLL]) -> None:
    assert primary_contexts(library()) == []  # CUDA was not started
    program.set({"initialised": 1, "count": 3} | context(0, 2) | context(1, 0) | context(2, 1))
    assert primary_contexts(library()) == []  # no device was touched
    program.set({"device1.active": 1})
    how = "this process has a CUDA context on it"
    found = Used(how, pci="0000:01:00.0", uuid=fakes.identity(0))
    assert primary_contexts(library()) == [found]
    program.set({"device2.active": 1, "device1.active": 0})
    assert primary_contexts(library()) == [Used(how, pci="0000:02:00.0", uuid=fakes.identity(1))]


def test_library_is_never_loaded(cuda_library: Path, tmp_path: Path) -> None:
    code = """
import ctypes
from perfmon_widgets.collectors.nvidia.in_use import mapped_library
mapped = lambda: "libcuda" in open("/proc/self/maps").read()
assert mapped_library() is None and not mapped()
ctypes.CDLL("libcuda.so.1")
assert mapped_library() is not None and mapped()
"""
    environment = os.environ | {"LD_LIBRARY_PATH": str(cuda_library.parent)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


# Its children


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Which of four GPUs the children in the tree at tmp_path seem to use."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def look() -> list[int]:
        found = Search(ALIKE, proc=tmp_path, library=lambda: None, modules={}).look()
        assert not any(used.certain for used in found)
        return [used.index for used in found]

    return look


def test_a_real_child(tmp_path: Path) -> None:
    """The real /proc, with plain files in place of the devices: their names cannot be had without a GPU."""
    with programs.program("print('ready', flush=True)\ninput()") as child:
        search = Search(ALIKE, library=lambda: None, modules={})
        assert child.pid in processes.children(os.getpid())
        assert search._opened(child.pid) == frozenset()
        assert search._environment(child.pid).get("PATH") == os.environ.get("PATH")
        assert search.look() == []


# All of it together


@pytest.fixture
def machine(
    monkeypatch: pytest.MonkeyPatch, nvml_library: Path, tmp_path: Path, program: fakes.State
) -> Callable[..., fakes.State]:
    """Makes a machine with these GPUs, and CUDA."""
    return lambda *gpus: fakes.nvml(monkeypatch, nvml_library, tmp_path, *gpus)


@pytest.fixture
def collector(tmp_path: Path, library: Callable[[], ctypes.CDLL]) -> Callable[[], NvidiaCollector]:
    def make() -> NvidiaCollector:
        search = Search(known_gpus(tmp_path), proc=tmp_path, library=library, modules={})
        return NvidiaCollector(search=search.look, proc=tmp_path)

    return make


def wheres(collector: NvidiaCollector) -> list[str]:
    return list(dict.fromkeys(metric.where for metric in collector.metrics))


def read(collector: NvidiaCollector) -> set[str]:
    """Where there are numbers."""
    return {name.split("/")[0] for name, value in collector.collect().items() if not math.isnan(value)}


def test_cuda_started_after_the_monitor(
    machine: Callable[..., fakes.State],
    program: fakes.State,
    collector: Callable[[], NvidiaCollector],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_use, "_OWN_EVERY", 0.0)
    driver = machine(*map(fakes.gpu, range(8)))
    monitor = collector()
    assert wheres(monitor) == [f"gpu{number}" for number in range(8)]
    declared = [metric.name for metric in monitor.metrics]
    assert read(monitor) == set()
    assert "no GPU in use yet" in monitor.errors["gpu5/power_watts"]
    # CUDA counts in an order of its own.
    program.set({"initialised": 1, "count": 8})
    for device in range(8):
        program.set(context(device, 7 - device))
    assert read(monitor) == set()
    assert not driver.calls("attach")  # nothing was woken up
    program.set({"device2.active": 1})
    assert read(monitor) == {"gpu5"}
    assert set(driver.calls("attach")) == {"gpu5"}
    program.set({"device0.active": 1})
    assert read(monitor) == {"gpu5", "gpu7"}
    program.set({"device0.active": 0})
    assert read(monitor) == {"gpu5", "gpu7"}  # once used, it stays
    assert set(driver.calls("attach")) == {"gpu5", "gpu7"}
    assert [metric.name for metric in monitor.metrics] == declared
    monitor.close()


def test_whole_process(nvml_library: Path, cuda_library: Path, tmp_path: Path) -> None:
    """Nothing passed in: the libraries are found by the dynamic linker, CUDA is loaded after the monitor."""
    driver = fakes.State(tmp_path / "nvml.txt", {"count": 2, "log": 1} | fakes.gpu(0) | fakes.gpu(1))
    program = fakes.State(tmp_path / "cuda.txt", {"initialised": 1, "count": 1} | context(0, 1, active=1))
    code = """
import ctypes, math
from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector
collector = NvidiaCollector()
read = lambda: [name for name, value in collector.collect().items() if value == 150]
print(read())
ctypes.CDLL("libcuda.so.1")
print(read())
"""
    environment = os.environ | {
        "LD_LIBRARY_PATH": f"{nvml_library.parent}:{cuda_library.parent}",
        "PERFMON_FAKE_NVML": str(driver.path),
        "PERFMON_FAKE_CUDA": str(program.path),
    }
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (answer.stdout, answer.stderr) == ("[]\n['gpu1/power_watts']\n", "")
    assert set(driver.calls("attach")) == {"gpu1"}
