"""Which GPUs real programs use, by a compiled stand-in for CUDA's library."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import nvidia as fakes
from fakes import programs

from perfmon_widgets.collectors.linux import processes
from perfmon_widgets.collectors.nvidia import in_use
from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector
from perfmon_widgets.collectors.nvidia.gpus import Gpu
from perfmon_widgets.collectors.nvidia.in_use import Search, Used, primary_contexts

ALIKE = [Gpu(f"0000:0{number}:00.0", number, f"GPU-{number}aaa", "A100") for number in range(4)]


# This process


def test_primary_contexts(cuda_program: fakes.State, load_cuda: fakes.LoadCuda) -> None:
    assert primary_contexts(load_cuda()) == []  # CUDA was not started
    cuda_program.set(
        {"initialised": 1, "count": 3} | fakes.context(0, 2) | fakes.context(1, 0) | fakes.context(2, 1)
    )
    assert primary_contexts(load_cuda()) == []  # no device was touched
    cuda_program.set({"device1.active": 1})
    how = "this process has a CUDA context on it"
    found = Used(how, pci="0000:01:00.0", uuid=fakes.identity(0))
    assert primary_contexts(load_cuda()) == [found]
    cuda_program.set({"device2.active": 1, "device1.active": 0})
    assert primary_contexts(load_cuda()) == [Used(how, pci="0000:02:00.0", uuid=fakes.identity(1))]


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


def test_a_real_child(tmp_path: Path) -> None:
    """The real /proc, with plain files in place of the devices: their names cannot be had without a GPU."""
    with programs.program("print('ready', flush=True)\ninput()") as child:
        search = Search(ALIKE, library=lambda: None, modules={})
        assert child.pid in processes.children(os.getpid())
        assert search._opened(child.pid) == frozenset()
        assert search._environment(child.pid).get("PATH") == os.environ.get("PATH")
        assert search.look() == []


# All of it together


def wheres(collector: NvidiaCollector) -> list[str]:
    return list(dict.fromkeys(metric.where for metric in collector.metrics))


def read(collector: NvidiaCollector) -> set[str]:
    """Where there are numbers."""
    return {name.split("/")[0] for name, value in collector.collect().items() if not math.isnan(value)}


def test_cuda_started_after_the_monitor(
    nvidia_machine: fakes.Machine,
    cuda_program: fakes.State,
    nvidia_collector: fakes.MakeCollector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_use, "_OWN_EVERY", 0.0)
    driver = nvidia_machine(*map(fakes.gpu, range(8)))
    monitor = nvidia_collector()
    assert wheres(monitor) == [f"gpu{number}" for number in range(8)]
    declared = [metric.name for metric in monitor.metrics]
    assert read(monitor) == set()
    assert "no GPU in use yet" in monitor.errors["gpu5/power_watts"]
    # CUDA counts in an order of its own.
    cuda_program.set({"initialised": 1, "count": 8})
    for device in range(8):
        cuda_program.set(fakes.context(device, 7 - device))
    assert read(monitor) == set()
    assert not driver.calls("attach")  # nothing was woken up
    cuda_program.set({"device2.active": 1})
    assert read(monitor) == {"gpu5"}
    assert set(driver.calls("attach")) == {"gpu5"}
    cuda_program.set({"device0.active": 1})
    assert read(monitor) == {"gpu5", "gpu7"}
    cuda_program.set({"device0.active": 0})
    assert read(monitor) == {"gpu5", "gpu7"}  # once used, it stays
    assert set(driver.calls("attach")) == {"gpu5", "gpu7"}
    assert [metric.name for metric in monitor.metrics] == declared
    monitor.close()


def test_whole_process(nvml_library: Path, cuda_library: Path, tmp_path: Path) -> None:
    """Nothing passed in: the libraries are found by the dynamic linker, CUDA is loaded after the monitor."""
    driver = fakes.State(tmp_path / "nvml.txt", {"count": 2, "log": 1} | fakes.gpu(0) | fakes.gpu(1))
    program = fakes.State(
        tmp_path / "cuda.txt", {"initialised": 1, "count": 1} | fakes.context(0, 1, active=1)
    )
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
