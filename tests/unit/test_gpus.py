"""Vendors of GPUs: how their GPUs are numbered, and which of them gets a GPU that the user names."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from fakes.amd import DISCRETE, MI300, FakeAmd
from fakes.collectors import FakeCollector
from fakes.trees import forked

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.collectors import Broken, amd, default_collectors, gpus
from perfmon_widgets.collectors.gpus import gpu_collectors

THIRD = '''
"""A third vendor, as a folder of its own: GPUs with the UUIDs in this list."""
from perfmon_widgets.metrics import Metric

UUIDS = ["GPU-third-0", ""]

class Collector:
    def __init__(self, numbers):
        self.metrics = [Metric(f"gpu{n}/power_watts", "watts", "gpu", "Power.") for n in numbers]
    def collect(self):
        return {metric.name: 75.0 for metric in self.metrics}

def known_uuids():
    return UUIDS

def make(gpus, first, root, members):
    mine = {str(first + number): first + number for number in range(len(UUIDS))}
    mine |= {uuid: first + number for number, uuid in enumerate(UUIDS) if uuid}
    return Collector(range(first, first + len(UUIDS)) if gpus is None else [mine[str(gpu)] for gpu in gpus])
'''


@pytest.fixture
def third(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A folder with the two functions that a vendor needs."""
    folder = tmp_path / "third_vendor"
    folder.mkdir()
    (folder / "__init__.py").write_text(THIRD)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("third_vendor")
    del sys.modules["third_vendor"]


class FakeVendor:
    """A vendor with these GPUs, or one whose driver fails with an error."""

    def __init__(self, *uuids: str, error: Exception | None = None) -> None:
        self.uuids, self.error = uuids, error
        self.asked: list[tuple[Sequence[int | str] | None, int, int | None]] = []
        self.members: Callable[[], Collection[int]] | None = None

    def known_uuids(self) -> Sequence[str]:
        return self.uuids

    def make(
        self,
        gpus: Sequence[int | str] | None,
        first: int,
        root: int | None,
        members: Callable[[], Collection[int]],
    ) -> FakeCollector:
        self.members = members
        self.asked.append((gpus, first, root))
        if self.error is not None:
            raise self.error
        return FakeCollector(f"gpu{first}/power_watts")


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces the list of vendors."""
    return lambda *made: monkeypatch.setattr(gpus, "VENDORS", made)


def test_a_third_vendor_is_a_folder_and_one_entry_in_the_list(tmp_path, monkeypatch, third, vendors):
    machine = FakeAmd(tmp_path)
    machine.gpu("0000:03:00.0", DISCRETE)
    machine.gpu("0000:c3:00.0", MI300)
    monkeypatch.setattr(amd, "SYS", machine.sys)
    monkeypatch.setattr(
        amd, "AmdCollector", lambda gpus, first, root, members: FakeCollector(f"gpu{first}/a_watts")
    )
    vendors(FakeVendor(error=FileNotFoundError("no NVIDIA driver")), amd, third)
    monitor = PerformanceMonitor(default_collectors())
    values = monitor.sample().values
    assert [name for name in values if name.startswith("gpu")][-2:] == [
        "gpu2/power_watts",
        "gpu3/power_watts",
    ]
    assert values["gpu3/power_watts"] == 75.0
    (named,) = default_collectors(["GPU-third-0"])[-1].metrics
    assert named.name == "gpu2/power_watts"


def test_each_vendor_is_asked_with_the_number_of_its_first_gpu_and_the_process_to_watch(vendors):
    made = FakeVendor("GPU-a", "GPU-b"), FakeVendor(), FakeVendor("GPU-c")
    vendors(*made)
    assert len(gpu_collectors(None, 17)) == 3
    assert [vendor.asked for vendor in made] == [[(None, 0, 17)], [(None, 2, 17)], [(None, 2, 17)]]


def test_each_vendor_is_told_which_descendants_are_known(vendors):
    """Only the tree of processes knows those whose parent has ended."""
    vendor = FakeVendor()
    vendors(vendor)
    monitor = PerformanceMonitor(default_collectors())
    with forked() as child:
        monitor.sample()
        assert child in vendor.members()


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ([0], [[0], None]),
        (["1"], [["1"], None]),
        ([2], [None, [2]]),
        ([3, 0, "GPU-c"], [[0], [3, "GPU-c"]]),
        (["MIG-x", 9, ""], [["MIG-x", 9, ""], None]),  # unknown: NVML knows best
        ([], [None, None]),
    ],
)
def test_a_named_gpu_goes_to_its_vendor_and_an_unknown_one_to_the_first(vendors, named, expected):
    made = FakeVendor("GPU-a", ""), FakeVendor("GPU-c", "")
    vendors(*made)
    gpu_collectors(named, None)
    assert [vendor.asked[0][0] if vendor.asked else None for vendor in made] == expected


def test_a_vendor_without_gpus_is_left_out_and_one_that_does_not_work_says_why(vendors, caplog):
    caplog.set_level(logging.INFO)
    vendors(
        FakeVendor(error=PermissionError("no permission to use the driver")),
        FakeVendor(error=FileNotFoundError("there is no GPU of the second")),
        FakeVendor("GPU-c"),
    )
    broken, works = gpu_collectors(None, None)
    assert isinstance(broken, Broken)
    assert (list(broken.metrics), broken.collect()) == ([], {})
    assert broken.errors == {"gpu": "no permission to use the driver"}
    assert works.metrics
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "no permission to use the driver"),
        ("INFO", "there is no GPU of the second"),
    ]


@pytest.mark.parametrize("error", [PermissionError("not permitted"), FileNotFoundError("no driver")])
def test_a_named_gpu_that_cannot_be_read_is_an_error_that_names_it(vendors, error):
    vendors(FakeVendor(error=error))
    with pytest.raises(ValueError, match=rf"GPU 5 cannot be read: {error}"):
        gpu_collectors([5], None)


def test_no_gpu_named_is_none_read_whether_there_are_any_or_not(vendors):
    vendors(FakeVendor(error=FileNotFoundError("no driver")))
    assert gpu_collectors([], None) == []
