"""The fake NVIDIA libraries in this folder: compiling them, and changing what they answer meanwhile."""

from __future__ import annotations

import ctypes
import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pynvml
import pytest

from perfmon_widgets.collectors.nvidia import collector as nvidia
from perfmon_widgets.collectors.nvidia.gpus import known_gpus
from perfmon_widgets.collectors.nvidia.in_use import Search, Used

_HERE = Path(__file__).parent
_GIBIBYTE = 2**30

# NVIDIA's own headers, and the distributions that have them.
_HEADERS = {"nvml.h": "nvidia-nvml-dev-cu12", "cuda.h": "nvidia-cuda-runtime-cu12"}


def _header(name: str) -> Path:
    """The folder with this header; skips the test where its distribution is not installed."""
    try:
        files = importlib.metadata.files(_HEADERS[name]) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [file for file in files if file.name == name]
    if not found:
        pytest.skip(f"NVIDIA's {name} is missing: pip install {_HEADERS[name]}")
    return Path(str(found[0].locate())).parent


def compiled(source: str, library: str, folder: Path, *flags: str) -> Path:
    """The fake library ``library`` made from ``source``; skips the test without a compiler or the header.

    The compiler compares every function with its declaration in NVIDIA's header.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    folder.mkdir(exist_ok=True)
    warnings = ("-Wall", "-Wmissing-prototypes", "-Werror")
    headers = ("-isystem", _header(source.replace(".c", ".h")))
    # With its own name inside, a later search for that name finds this one without any search path.
    command = [compiler, "-shared", "-fPIC", "-O1", f"-Wl,-soname,{library}", *warnings, *headers, *flags]
    subprocess.run([*command, "-o", folder / library, _HERE / source], check=True)
    return folder / library


def identity(number: int) -> str:
    """The UUID of fake device ``number``, without prefix."""
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def gpu(number: int, **values: object) -> dict[str, object]:
    """State lines of an ordinary GPU; ``values`` replace some, None leaves one out."""
    lines: dict[str, object] = {
        "uuid": f"GPU-{identity(number)}",
        "pci": f"0000:{number + 1:02x}:00.0",
        "name": "NVIDIA Fake",
        "minor": number,
        "utilization": 40,
        "activity": 10,
        "total": 16 * _GIBIBYTE,
        "reserved": _GIBIBYTE,
        "used": 4 * _GIBIBYTE,
        "power": 150_000,
        "power_limit": 300_000,
        "clock": 1_400,
        "clock_limit": 1_980,
    } | values
    return {f"gpu{number}.{key}": value for key, value in lines.items() if value is not None}


class State:
    """What a fake library answers, kept in its state file; every change is seen by its next call."""

    def __init__(self, path: Path, lines: Mapping[str, object]) -> None:
        self.path = path
        self._lines: dict[str, object] = {}
        self.set(lines)

    def set(self, lines: Mapping[str, object]) -> None:
        """Change these lines; None takes one out."""
        self._lines = {key: value for key, value in (self._lines | dict(lines)).items() if value is not None}
        new = self.path.with_suffix(".new")
        new.write_text("".join(f"{key} {value}\n" for key, value in self._lines.items()))
        # The old file must outlive the new one's making, so that the two never have the same inode.
        new.replace(self.path)

    def calls(self, function: str = "") -> list[str]:
        """The devices this function was called for, in order; of all functions as "function device"."""
        log = self.path.with_name(f"{self.path.name}.calls")
        lines = log.read_text().splitlines() if log.exists() else []
        if not function:
            return lines
        return [line.split()[1] for line in lines if line.split()[0] == function]


def nvml(monkeypatch: pytest.MonkeyPatch, library: Path, folder: Path, *gpus: Mapping[str, object]) -> State:
    """The real nvidia-ml-py over the fake library with these GPUs, for the length of one test."""
    state = State(folder / "nvml.txt", {"count": len(gpus), "log": 1})
    for lines in gpus:
        state.set(lines)
    monkeypatch.setenv("PERFMON_FAKE_NVML", str(state.path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(nvidia._session, "is_open", False)
    return state


def driver_list(proc: Path, *gpus: Mapping[str, object]) -> Path:
    """A tree like /proc in which the driver lists these GPUs."""
    for number, lines in enumerate(gpus):
        name, identifier, address = (lines[f"gpu{number}.{key}"] for key in ("name", "uuid", "pci"))
        folder = proc / "driver/nvidia/gpus" / str(address)
        folder.mkdir(parents=True)
        (folder / "information").write_text(
            f"Model: \t\t {name}\nIRQ:   \t\t 120\nGPU UUID: \t {identifier}\nBus Location: \t {address}\n"
            f"Device Minor: \t {number}\nGPU Excluded:\t No\n"
        )
    return proc


def process(
    proc: Path, number: int, *, children: str = "", opened: Mapping[int, str], environment: str = ""
) -> None:
    """In a tree like /proc, a process with these children, open files (by descriptor) and environment."""
    folder = proc / str(number)
    (folder / "fd").mkdir(parents=True)
    (folder / "task" / str(number)).mkdir(parents=True)
    (folder / "task" / str(number) / "children").write_text(children)
    (folder / "environ").write_text(environment.replace(" ", "\0"))
    for descriptor, path in opened.items():
        (folder / "fd" / str(descriptor)).symlink_to(path)


def context(device: int, gpu: int, *, active: int = 0) -> dict[str, object]:
    """State lines of the fake CUDA: its device ``device`` is GPU ``gpu``."""
    return {
        f"device{device}.active": active,
        f"device{device}.pci": f"0000:{gpu + 1:02x}:00.0",
        f"device{device}.uuid": identity(gpu).replace("-", ""),
    }


def in_use(*numbers: int) -> Callable[[], list[Used]]:
    """A search that has found these GPUs."""
    return lambda: [Used("a test", index=number) for number in numbers]


Machine = Callable[..., State]
LoadCuda = Callable[[], ctypes.CDLL]
MakeCollector = Callable[[], nvidia.NvidiaCollector]

# conftest.py imports these fixtures for all tests.


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake libnvidia-ml.so.1."""
    return compiled("nvml.c", "libnvidia-ml.so.1", tmp_path_factory.mktemp("nvml") / "library")


@pytest.fixture(scope="session")
def cuda_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake libcuda.so.1."""
    return compiled("cuda.c", "libcuda.so.1", tmp_path_factory.mktemp("cuda") / "library")


@pytest.fixture
def nvidia_machine(monkeypatch: pytest.MonkeyPatch, nvml_library: Path, tmp_path: Path) -> Machine:
    """Makes a machine with these GPUs."""
    return lambda *gpus: nvml(monkeypatch, nvml_library, tmp_path, *gpus)


@pytest.fixture
def cuda_program(cuda_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """What this process does with CUDA; it has not begun."""
    state = State(tmp_path / "cuda.txt", {"count": 0})
    monkeypatch.setenv("PERFMON_FAKE_CUDA", str(state.path))
    return state


@pytest.fixture
def load_cuda(cuda_library: Path) -> LoadCuda:
    """Loads the fake CUDA into this process."""
    return lambda: ctypes.CDLL(str(cuda_library))


@pytest.fixture
def nvidia_collector(tmp_path: Path, load_cuda: LoadCuda) -> MakeCollector:
    """Makes a collector that searches the tree at tmp_path, and asks the fake CUDA."""

    def make() -> nvidia.NvidiaCollector:
        search = Search(known_gpus(tmp_path), proc=tmp_path, library=load_cuda, modules={})
        return nvidia.NvidiaCollector(search=search.look, proc=tmp_path)

    return make
