"""The NVIDIA collector in programs that find a compiled stand-in for the driver's library."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import nvidia as fakes
from fakes.collectors import read

from perfmon_widgets.collectors import Collector
from perfmon_widgets.collectors.nvidia import collector as nvidia
from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector

GIBIBYTE = 2**30


@pytest.fixture(scope="session")
def old_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.compiled(
        "nvml.c", "libnvidia-ml.so.1", tmp_path_factory.mktemp("nvml") / "old", "-DOLD_DRIVER"
    )


def metric(collector: NvidiaCollector, name: str) -> nvidia.Metric:
    return next(metric for metric in collector.metrics if metric.name == name)


# What is read


def test_values_and_what_they_mean(nvidia_machine: fakes.Machine) -> None:
    nvidia_machine(fakes.gpu(0))
    collector = NvidiaCollector(search=fakes.in_use(0))
    assert isinstance(collector, Collector)
    declared = [metric.name for metric in collector.metrics]
    values = read(collector)
    assert list(values) == declared == [metric.name for metric in collector.metrics]
    assert values["gpu0/utilization_percent"] == 40
    assert values["gpu0/memory_activity_percent"] == 10
    assert values["gpu0/memory_used_bytes"] == 4 * GIBIBYTE
    assert values["gpu0/memory_limit_bytes"] == 16 * GIBIBYTE
    assert values["gpu0/memory_percent"] == 25
    assert values["gpu0/power_watts"] == 150
    assert values["gpu0/sm_clock_hertz"] == 1.4e9
    power = metric(collector, "gpu0/power_watts")
    assert (power.limit, power.group) == (300, "gpu")
    assert power.device == f"NVIDIA Fake (GPU-{fakes.identity(0)})"
    assert metric(collector, "gpu0/memory_used_bytes").limit == "gpu0/memory_limit_bytes"
    assert metric(collector, "gpu0/sm_clock_hertz").limit == 1.98e9
    collector.close()


def test_old_driver(monkeypatch: pytest.MonkeyPatch, old_library: Path, tmp_path: Path) -> None:
    state = fakes.nvml(monkeypatch, old_library, tmp_path, fakes.gpu(0, compute=f"{os.getpid()}:1048576"))
    collector = NvidiaCollector(search=fakes.in_use(0))
    values = collector.collect()
    assert values["gpu0/process_memory_bytes"] == 1048576  # from the second version of the list
    assert collector.errors["gpu0/throttled_percent"] == "this driver is too old to report this"
    # Version 1 counts what the driver reserves as used.
    assert values["gpu0/memory_used_bytes"] == 5 * GIBIBYTE
    assert "reserved memory as used" in metric(collector, "gpu0/memory_used_bytes").source
    assert values["gpu0/utilization_percent"] == 40
    assert "nvmlDeviceGetUtilizationRates" in metric(collector, "gpu0/utilization_percent").source
    assert collector.errors["gpu0/pcie_sent_bytes_per_second"] == "this driver is too old to report this"
    before = len(state.calls())
    collector.collect()
    # The version that answered is asked directly from now on, and what there is not is left alone.
    assert len(state.calls()) - before == 4
    collector.close()


# No GPU, or none that works


def test_the_deprecated_distribution_does_not_warn(run_python: Callable[..., Any]) -> None:
    """The distribution "pynvml" warns through a finder, at every import of the module."""
    code = """
import sys, warnings
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "pynvml":
            warnings.warn("The pynvml package is deprecated.", FutureWarning)
sys.meta_path.insert(0, Finder())
from perfmon_widgets.collectors.nvidia.collector import NvidiaCollector
try: NvidiaCollector([0])
except OSError: pass
assert "pynvml" in sys.modules
"""
    answer = run_python(code)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_found_by_the_dynamic_linker(nvml_library: Path, tmp_path: Path) -> None:
    """The way the fake is put under a whole Jupyter kernel: LD_LIBRARY_PATH when the process starts."""
    state = fakes.State(tmp_path / "nvml.txt", {"count": 1} | fakes.gpu(0))
    code = (
        "from perfmon_widgets.collectors.nvidia.collector import *\n"
        "print(NvidiaCollector([0]).collect()['gpu0/power_watts'])"
    )
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(nvml_library.parent),
        "PERFMON_FAKE_NVML": str(state.path),
    }
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (answer.stdout, answer.stderr) == ("150.0\n", "")
