"""Two real ranks of torchrun, logged by themselves and from outside; one dies and is started again."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from perfmon_widgets import PerformanceMonitor, Sample
from perfmon_widgets.cluster.ranks import Ranks

# Not importorskip(): PyTorch takes seconds to import, and only the processes that are started need it.
if find_spec("torch") is None:
    pytest.skip("torch is not installed: pip install '.[frameworks]'", allow_module_level=True)

# They average their gradients, so that they are one job. With "die" they do not, since gloo may wait for ever
# in a group that is made again; instead rank 1 dies once.
TRAIN = """
import os, sys, time
import torch
import torch.distributed
monitor = None
if "log" in sys.argv:
    from perfmon_widgets.cluster import ranks
    monitor = ranks.log("run", interval=0.2)
die = "die" in sys.argv
if not die:
    torch.distributed.init_process_group("gloo")
first_rank_1 = os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
torch.manual_seed(0)  # or each rank learns what the others' gradients say of other parameters
model = torch.nn.Linear(100, 100)
begun = time.monotonic()
for step in range(60):
    model.zero_grad()
    loss = model(torch.ones(8, 100)).square().mean()
    loss.backward()
    for parameter in model.parameters():
        if not die:
            torch.distributed.all_reduce(parameter.grad)
        parameter.data -= 0.05 * parameter.grad
    if monitor:
        monitor.record(loss=loss.item())
    time.sleep(0.02)
    if die and first_rank_1 and time.monotonic() > begun + 1:
        os._exit(3)
if not die:
    torch.distributed.destroy_process_group()
"""


WATCHED = [sys.executable, *["-m", "perfmon_widgets", "run", "--ranks", "run", "--interval", "0.2", "--"]]


@pytest.fixture
def torchrun(folder: Path) -> list[str]:
    """The words that start two ranks."""
    Path("train.py").write_text(TRAIN)
    words = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "train.py"]
    return [sys.executable, "-m", "torch.distributed.run", *words]


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_ranks_that_log_are_seen_live_and_afterwards(torchrun):
    seen: dict[str, float] = {}

    def look(row: Sample) -> None:
        seen.update({name: value for name, value in row.values.items() if not math.isnan(value)})

    with PerformanceMonitor([Ranks("run")], interval=0.2) as monitor:
        monitor.on_sample(look)
        ended = run([*torchrun, "log"])
        assert ended.returncode == 0, ended.stderr
        deadline = time.monotonic() + 30
        while not math.isnan(monitor.latest.values["rank1/ram_used_bytes"]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "no row from rank 1" in monitor.errors["rank1/ram_used_bytes"]
    for rank in (0, 1):
        assert seen[f"rank{rank}/ram_used_bytes"] > 100e6  # PyTorch
        assert seen[f"rank{rank}/loss"] > 0
    table = Ranks("run").read()
    assert table.attrs["errors"] == {}
    assert set(table.index.get_level_values("rank")) == {0, 1}
    for rank in (0, 1):
        losses = table.loc[rank, "loss"].dropna()
        assert len(losses) >= 3
        assert losses.iloc[-1] < losses.iloc[0]


def test_ranks_are_logged_from_outside_each(torchrun):
    ended = run([*WATCHED, *torchrun])
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "logs of 2 ranks in run"
    assert {path.name for path in Path("run").glob("*.csv")} == {"rank0000.csv", "rank0001.csv"}
    table = Ranks("run").read()
    for rank in (0, 1):
        assert table.loc[rank, "process_ram_bytes"].max() > 100e6
        assert len(table.loc[rank]) >= 5


@pytest.mark.parametrize("how", ["by themselves", "from outside"])
def test_ranks_that_are_started_again_have_a_second_file_each_and_are_one_rank(torchrun, how):
    if how == "by themselves":
        ended = run([*torchrun, "log", "die"])
    else:
        ended = run([*WATCHED, *torchrun, "die"])
        assert ended.stderr.splitlines()[-1] == "logs of 2 ranks in run"
    assert ended.returncode == 0, ended.stderr
    names = {path.name for path in Path("run").glob("rank????*.json")}
    assert names == {"rank0000.json", "rank0001.json", "rank0000-2.json", "rank0001-2.json"}
    table = Ranks("run").read()
    assert table.attrs["errors"] == {}
    assert set(table.index.get_level_values("rank")) == {0, 1}
    for rank in (0, 1):
        rows = table.loc[rank]
        assert rows.index.is_monotonic_increasing
        assert len(rows) >= 6
