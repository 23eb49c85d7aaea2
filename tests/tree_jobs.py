"""Jobs of several processes, measured by this package and by a full walk over them: ``tree_jobs.py NAME``.

Prints JSON: the CPU seconds by both, and the bytes in memory by both in each row. Each job runs in a process
of its own, as it would in a notebook, which is the root of its tree.
"""

from __future__ import annotations

import json
import mmap
import multiprocessing
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.collectors.linux.process import ProcessCollector

MIB = 2**20
PAGE = mmap.PAGESIZE
WORKERS = 4
BETWEEN = 0.4
"""Seconds between two rows."""


# -- what is done ------------------------------------------------------------------------------------------


def work(mebibytes: int = 60, seconds: float = 0.6) -> int:
    """Hold so much memory, and use so much CPU time."""
    block = np.ones(mebibytes * MIB // 8)
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(10_000))
    time.sleep(0.5)
    return len(block)


def pool(method: str) -> None:
    with multiprocessing.get_context(method).Pool(WORKERS) as workers:
        workers.starmap(work, [(60, 0.6)] * WORKERS)


def shared_memory() -> None:
    """The root makes an array, and workers read it."""
    block = mmap.mmap(-1, 300 * MIB)
    block.write(b"x" * len(block))

    def read() -> None:
        for _ in range(5):
            bytes(block[::PAGE])
            work(20, 0.1)

    workers = [multiprocessing.get_context("fork").Process(target=read) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def late_grandchildren() -> None:
    """As of ``uv run`` or a script of a shell: the work is done below a launcher that waits first."""
    code = f"import sys; sys.path.insert(0, {sys.path[0]!r}); from tree_jobs import work; work(150, 0.5)"
    launcher = (
        "import subprocess, sys, time; time.sleep(0.5); "
        f"[one.wait() for one in [subprocess.Popen([sys.executable, '-c', {code!r}]) for _ in range(2)]]"
    )
    subprocess.run([sys.executable, "-c", launcher], check=True)


class Images:
    """A data set of PyTorch's that is in memory."""

    def __init__(self) -> None:
        import torch

        self.pixels = torch.ones(160, MIB // 4)  # each a megabyte

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> object:
        end = time.process_time() + 0.01
        while time.process_time() < end:
            sum(range(1000))
        return self.pixels[index] * 2


def data_loader(method: str) -> None:
    """PyTorch: two workers load an epoch."""
    from torch.utils.data import DataLoader

    loader = DataLoader(Images(), batch_size=4, num_workers=2, multiprocessing_context=method)
    assert sum(len(batch) for batch in loader) == 160


def loky() -> None:
    """joblib's pool, whose workers live on until they are shut down."""
    from loky import get_reusable_executor

    executor = get_reusable_executor(max_workers=2)
    list(executor.map(work, [100] * 4))
    executor.shutdown(wait=True)


def torchrun() -> None:
    """Two ranks that train on CPUs, and average their gradients."""
    words = ["--standalone", "--nproc-per-node", "2", __file__, "rank"]
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", *words]
    subprocess.run(command, check=True, capture_output=True)


def rank() -> None:
    """What each rank of torchrun() runs; DistributedDataParallel would take three seconds to import."""
    import torch

    torch.distributed.init_process_group("gloo")
    model = torch.nn.Linear(2000, 2000)
    for _ in range(10):
        model.zero_grad()
        model(torch.ones(100, 2000)).square().mean().backward()
        for parameter in model.parameters():
            torch.distributed.all_reduce(parameter.grad)
            parameter.data -= 0.1 * parameter.grad / 2
    torch.distributed.destroy_process_group()


JOBS: dict[str, Callable[[], None]] = {
    "four fork workers": lambda: pool("fork"),
    "four spawn workers": lambda: pool("spawn"),
    "forkserver pool": lambda: pool("forkserver"),
    "shared memory": shared_memory,
    "late grandchildren": late_grandchildren,
}
"""Those that need nothing but the standard library and NumPy."""
FRAMEWORKS: dict[str, Callable[[], None]] = {
    "DataLoader, fork": lambda: data_loader("fork"),
    "DataLoader, spawn": lambda: data_loader("spawn"),
    "DataLoader, forkserver": lambda: data_loader("forkserver"),
    "loky": loky,
    "torchrun, 2 ranks": torchrun,
}
"""Those of the extra ``frameworks``."""


# -- what is right -----------------------------------------------------------------------------------------


def tree() -> Iterator[psutil.Process]:
    root = psutil.Process()
    yield root
    yield from root.children(recursive=True)


def cpu_seconds() -> float:
    """The CPU time of all processes, and of those that have ended and were waited for."""
    used = 0.0
    for process in tree():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used += times.user + times.system + times.children_user + times.children_system
    return used


def memory() -> float:
    """The bytes that all processes have in memory, each page once.

    It is the sum of their proportional sizes (PSS), except that of files and shared memory nothing is taken
    off for strangers that map the same. Their pages are looked up one by one.
    """
    anonymous = 0
    pages: dict[tuple[bytes, bytes], list[np.ndarray]] = defaultdict(list)
    for process in tree():
        folder = Path(f"/proc/{process.pid}")
        try:
            sizes = (folder / "smaps_rollup").read_bytes()
            anonymous += int(sizes.partition(b"\nPss_Anon:")[2].split(None, 1)[0] or 0) * 1024
            for file, offsets in file_pages(folder):
                pages[file].append(offsets)
        except (OSError, IndexError):
            continue  # it has ended
    return anonymous + PAGE * sum(np.unique(np.concatenate(each)).size for each in pages.values())


def file_pages(folder: Path) -> Iterator[tuple[tuple[bytes, bytes], np.ndarray]]:
    """Which pages of files and shared memory a process has in memory, by file."""
    present, of_file = 1 << 63, 1 << 61
    with (folder / "pagemap").open("rb", buffering=0) as pagemap:
        for line in (folder / "maps").read_bytes().splitlines():
            addresses, _, offset, device, inode = line.split(None, 5)[:5]
            if inode == b"0":
                continue
            start, end = (int(address, 16) // PAGE for address in addresses.split(b"-"))
            pagemap.seek(start * 8)
            entries = np.frombuffer(pagemap.read((end - start) * 8), np.uint64)
            both = np.uint64(present | of_file)
            yield (device, inode), np.flatnonzero(entries & both == both) + int(offset, 16) // PAGE


# -- the comparison ----------------------------------------------------------------------------------------


def measured(job: Callable[[], None]) -> dict[str, object]:
    """Run a job on a thread; the CPU seconds, ours and the walk's, and the memory in each row.

    That of the walks is their least and most, from before the row to after it.
    """
    monitor = PerformanceMonitor([collector := ProcessCollector()])
    rows: list[tuple[float, float, float]] = []
    ours = 0.0
    monitor.sample()
    latest = memory()
    before = cpu_seconds()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            job()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    left = 5  # rows after the end: the last may hold what was carried over
    while left:
        # From the look after the row before: memory that is being given back is mapped no more, but there.
        looks = [latest, memory()]
        values = monitor.sample().values
        looks.append(latest := memory())
        rows.append((values["process_ram_bytes"], min(looks), max(looks)))
        ours += values["process_cpu_percent"] / 100 * collector._capacity * collector._tree.passed
        time.sleep(BETWEEN)
        left -= not thread.is_alive()
    if failed:
        raise failed[0]
    theirs = cpu_seconds() - before
    return {"cpu": (ours, theirs), "memory": rows}


def main() -> None:
    name = sys.argv[1]
    if name == "rank":
        rank()
    else:
        print(json.dumps(measured((JOBS | FRAMEWORKS)[name])))


if __name__ == "__main__":
    main()
