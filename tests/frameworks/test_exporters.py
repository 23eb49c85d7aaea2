"""The exporters with the real clients and stores of MLflow, TensorBoard and Weights & Biases, read back."""

from __future__ import annotations

import errno
import io
import itertools
import json
import logging
import math
import os
import resource
import shutil
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.collectors import FakeCollector, Samples

from perfmon_widgets import PerformanceMonitor

os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_ERROR_REPORTING="false")
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
with warnings.catch_warnings():  # those of the clients at their import
    warnings.simplefilter("ignore")
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("tensorboard")
    wandb = pytest.importorskip("wandb")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from perfmon_widgets.integrations.mlflow import export_to_mlflow
    from perfmon_widgets.integrations.tensorboard import export_to_tensorboard
    from perfmon_widgets.integrations.wandb import export_to_wandb

# The clients warn of their own future, and of each other's versions. A warning that this package causes names
# one of its files.
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error:::perfmon_widgets"),
]


def readings() -> FakeCollector:
    """Numbers that differ in each row, and one that is always missing."""
    numbers = itertools.count(1)

    def read() -> dict[str, float]:
        number = next(numbers)
        return {"cpu_percent": number / 4, "gpu0/memory_used_bytes": 2.0**40 + number}

    return FakeCollector("cpu_percent", "gpu0/memory_used_bytes", "gpu0/power_watts", read=read)


@pytest.fixture(autouse=True)
def quiet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clients write into the working directory, and log what they do."""
    monkeypatch.setenv("WANDB_DIR", str(folder))
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def monitor() -> PerformanceMonitor:
    return PerformanceMonitor([readings()], interval=0.02)


def sampled(monitor: PerformanceMonitor, rows: int = 3) -> list[float]:
    """Take some rows; returns the times of the readings."""
    return [monitor.sample().time for _ in range(rows)]


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- MLflow ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for all tests: it takes seconds to make."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/store.db"
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run():
        pass
    return uri


@pytest.fixture
def store(database: str) -> Iterator[Any]:
    mlflow.set_tracking_uri(database)
    yield mlflow.MlflowClient()
    mlflow.end_run()


def test_mlflow_has_each_row_as_system_metrics_of_the_active_run(store, monitor):
    with mlflow.start_run() as run, export_to_mlflow(monitor=monitor):
        times = sampled(monitor)
        mlflow.log_metric("loss", 0.5, step=7)
    found = store.get_metric_history(run.info.run_id, "system/cpu_percent")
    assert [each.value for each in found] == [0.25, 0.5, 0.75]
    assert [each.timestamp for each in found] == [round(at * 1000) for at in times]
    assert [each.step for each in found] == [
        int(each.timestamp - run.info.start_time) // 1000 for each in found
    ]  # fmt: skip
    memory = store.get_metric_history(run.info.run_id, "system/gpu0/memory_used_bytes")
    assert [each.value for each in memory] == [2.0**40 + 1, 2.0**40 + 2, 2.0**40 + 3]
    # A missing number is left out, and the metrics of the user are theirs.
    names = set(store.get_run(run.info.run_id).data.metrics)
    assert names == {"system/cpu_percent", "system/gpu0/memory_used_bytes", "loss"}
    assert monitor.errors == {}


def test_mlflow_a_row_of_more_columns_than_fit_in_a_request(store):
    wide = PerformanceMonitor([FakeCollector(*(f"core{number}/cpu_percent" for number in range(1200)))])
    with mlflow.start_run() as run, export_to_mlflow(monitor=wide):
        wide.sample()
    assert len(store.get_run(run.info.run_id).data.metrics) == 1200
    assert wide.errors == {}


def test_mlflow_a_run_that_is_named_and_where_it_is_logged_do_not_change(store, monitor, folder):
    run = store.create_run("0")
    with export_to_mlflow(run.info.run_id, monitor=monitor):
        mlflow.set_tracking_uri(f"sqlite:///{folder}/another.db")
        sampled(monitor)
    assert store.get_run(run.info.run_id).data.metrics["system/cpu_percent"] == 0.75
    store.set_terminated(run.info.run_id)


def test_mlflow_the_exporter_ends_with_the_run(store, monitor):
    with mlflow.start_run() as run:
        export_to_mlflow(monitor=monitor)
        sampled(monitor)
        key = run.info.run_id, "system/cpu_percent"
        until(lambda: len(store.get_metric_history(*key)) == 3)
    monitor.sample()
    until(lambda: not monitor._sample_subscribers._subscribers)
    assert len(store.get_metric_history(*key)) == 3
    assert monitor.errors == {}


def test_mlflow_without_a_run_says_what_to_do(store, monitor):
    with pytest.raises(ValueError, match=r"call mlflow.start_run\(\) before, or pass run_id="):
        export_to_mlflow(monitor=monitor)
    assert not monitor._sample_subscribers._subscribers


@pytest.fixture
def files(store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store of files: to say whether a run goes on, MLflow reads every value that it has ever logged."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((folder / "mlruns").as_uri())
    return mlflow.MlflowClient()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that the store was asked for."""
    asked: list[str] = []
    get_run = mlflow.MlflowClient.get_run

    def ask(client: Any, run_id: str) -> Any:
        asked.append(run_id)
        return get_run(client, run_id)

    monkeypatch.setattr(mlflow.MlflowClient, "get_run", ask)
    return asked


def test_mlflow_the_store_is_not_asked_for_the_run_with_each_row(files, monitor, asked):
    with mlflow.start_run() as active, export_to_mlflow(monitor=monitor):
        sampled(monitor, 5)
    assert asked == []
    named = files.create_run("0")
    with export_to_mlflow(named.info.run_id, monitor=monitor):
        sampled(monitor, 5)
    assert asked == [named.info.run_id]
    for run in (active, named):
        history = files.get_metric_history(run.info.run_id, "system/cpu_percent")
        assert len(history) == 5
        steps = [(each.timestamp - run.info.start_time) // 1000 for each in history]
        assert [each.step for each in history] == steps
    assert monitor.errors == {}


def test_mlflow_a_metric_whose_file_is_just_being_created_costs_no_row(files, monitor, folder, monkeypatch):
    monkeypatch.setattr("perfmon_widgets.integrations.mlflow._EVERY", 0.0)
    with mlflow.start_run() as run, export_to_mlflow(monitor=monitor) as exporter:
        [metrics] = (folder / "mlruns").glob(f"*/{run.info.run_id}/metrics")
        (metrics / "loss").touch()  # opened, but not yet written
        with pytest.raises(ValueError, match="No data found"):
            files.get_run(run.info.run_id)
        sampled(monitor, 3)
    assert exporter.missing == 0
    assert len(files.get_metric_history(run.info.run_id, "system/cpu_percent")) == 3


def test_mlflow_the_end_of_a_run_that_is_not_active_here_is_noticed_when_the_store_is_asked(
    store, monitor, monkeypatch
):
    monkeypatch.setattr("perfmon_widgets.integrations.mlflow._EVERY", 0.1)
    run_id = store.create_run("0").info.run_id
    export_to_mlflow(run_id, monitor=monitor)
    with monitor:
        until(lambda: len(store.get_metric_history(run_id, "system/cpu_percent")) > 2)
        store.set_terminated(run_id)
        until(lambda: not monitor._sample_subscribers._subscribers)
    assert monitor.errors == {}


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_mlflow_a_server_that_is_away_is_an_error_and_nothing_else(store, monitor, monkeypatch, closed_port):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(closed_port)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor, export_to_mlflow("0" * 32, monitor=monitor):
        until(lambda: "MLflow" in monitor.errors)
        assert "a row was not handed on: MlflowException: " in monitor.errors["MLflow"]
        assert closed_port.rpartition(":")[2] in monitor.errors["MLflow"]
        for _ in range(10):
            samples.next()


def test_mlflow_a_client_that_tries_for_minutes_delays_neither_samples_nor_the_end(
    store, monitor, monkeypatch, closed_port
):
    """MLflow's client does so by default while its server is away; here it tries for seconds."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    monkeypatch.setattr("perfmon_widgets.integrations.exporter.TIMEOUT", 0.2)
    mlflow.set_tracking_uri(closed_port)
    samples = Samples()
    monitor.on_sample(samples)
    with monitor:
        exporter = export_to_mlflow("0" * 32, monitor=monitor)
        for _ in range(20):
            samples.next()
        until(lambda: "no answer for" in monitor.errors.get("MLflow", ""))
        exporter.close()
        assert exporter.missing > 10
    # Its thread ends with that client's next attempt; this process need not wait for it.
    [thread] = [each for each in threading.enumerate() if each.name == "perfmon-MLflow"]
    assert thread.daemon
    thread.name = "MLflow's client"


# -- TensorBoard -------------------------------------------------------------------------------------------


def scalars(folder: Path) -> dict[str, list[Any]]:
    """What TensorBoard would show of a run, by tag."""
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    read.Reload()
    return {tag: read.Scalars(tag) for tag in read.Tags()["scalars"]}


def test_tensorboard_has_each_row_as_scalars_below_the_folder(monitor, folder):
    with export_to_tensorboard("runs/one", monitor=monitor):
        os.chdir("/")  # the folder is that of the call
        times = sampled(monitor)
    found = scalars(folder / "runs" / "one" / "perfmon")
    assert set(found) == {"system/cpu_percent", "system/gpu0/memory_used_bytes"}
    assert [each.value for each in found["system/cpu_percent"]] == [0.25, 0.5, 0.75]
    assert [each.wall_time for each in found["system/cpu_percent"]] == times
    assert [each.step for each in found["system/cpu_percent"]] == [int(at - times[0]) for at in times]
    assert found["system/gpu0/memory_used_bytes"][0].value == pytest.approx(2.0**40)
    assert monitor.errors == {}


def test_tensorboard_shows_a_row_at_once_and_not_when_the_exporter_is_closed(monitor, folder):
    with export_to_tensorboard(folder, monitor=monitor):
        sampled(monitor)
        until(lambda: (folder / "perfmon").exists())
        until(lambda: len(scalars(folder / "perfmon").get("system/cpu_percent", [])) == 3)


def test_tensorboard_a_monitor_that_starts_again_goes_on_in_the_same_file(monitor, folder):
    with export_to_tensorboard(folder, monitor=monitor):
        for _ in range(2):
            with monitor:
                time.sleep(0.1)
    assert len(list((folder / "perfmon").iterdir())) == 1
    values = [each.value for each in scalars(folder / "perfmon")["system/cpu_percent"]]
    assert values == monitor.history["cpu_percent"].tolist()


def test_tensorboard_a_folder_that_cannot_be_made_is_an_error_and_nothing_else(monitor, folder):
    (folder / "file").write_text("")
    with export_to_tensorboard(folder / "file", monitor=monitor) as exporter:
        sampled(monitor)
        until(lambda: "TensorBoard" in monitor.errors)
        assert "NotADirectoryError" in monitor.errors["TensorBoard"]
    assert exporter.missing == 3


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Files cannot be longer than this: what does not fit is refused, as by a disk that is full."""
    limit, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))


@pytest.mark.parametrize("rows", [0, 2], ids=["before the first row", "after two rows"])
@pytest.mark.parametrize("room", [0, 10], ids=["full", "nearly full"])
def test_tensorboard_a_disk_that_was_full_costs_the_rows_of_that_time_only(monitor, folder, rows, room):
    with export_to_tensorboard(folder, monitor=monitor) as exporter:
        times = sampled(monitor, rows)
        exporter._flush()
        written = sum(each.stat().st_size for each in folder.glob("perfmon/*"))
        with full_disk(written + room):
            sampled(monitor, 3)
            exporter._flush()
            assert "OSError: [Errno 27]" in monitor.errors["TensorBoard"]
        assert exporter.missing == 3
        times += sampled(monitor, 2)
    assert monitor.errors == {}
    assert len(list((folder / "perfmon").iterdir())) == 1
    found = scalars(folder / "perfmon")["system/cpu_percent"]
    assert [each.wall_time for each in found] == times
    assert [each.value for each in found] == ([0.25, 0.5, 1.5, 1.75] if rows else [1.0, 1.25])


def test_tensorboard_after_a_row_whose_part_cannot_be_taken_back_comes_a_new_file(
    monitor, folder, monkeypatch
):
    class Broken(io.FileIO):
        def write(self, content: Any) -> int:
            super().write(content[:20])
            raise OSError(errno.EIO, "the disk is gone")

        def truncate(self, size: int | None = None) -> int:
            raise OSError(errno.EIO, "the disk is gone")

    with export_to_tensorboard(folder, monitor=monitor) as exporter:
        sampled(monitor)
        exporter._flush()
        with monkeypatch.context() as broken:
            broken.setattr(Path, "open", lambda path, mode, buffering: Broken(path, mode))
            sampled(monitor, 1)
            exporter._flush()
        sampled(monitor)
    assert exporter.missing == 1
    assert len(list((folder / "perfmon").iterdir())) == 2
    found = scalars(folder / "perfmon")["system/cpu_percent"]
    assert [each.value for each in found] == [0.25, 0.5, 0.75, 1.25, 1.5, 1.75]


def test_tensorboard_a_folder_that_was_deleted_is_made_again(monitor, folder):
    with export_to_tensorboard(folder, monitor=monitor) as exporter:
        sampled(monitor)
        exporter._flush()
        shutil.rmtree(folder / "perfmon")
        sampled(monitor)
    found = scalars(folder / "perfmon")["system/cpu_percent"]
    assert [each.value for each in found] == [1.0, 1.25, 1.5]
    assert monitor.errors == {}


# -- Weights & Biases --------------------------------------------------------------------------------------


@pytest.fixture
def run() -> Iterator[Any]:
    run = wandb.init(project="test", settings=wandb.Settings(x_disable_stats=True, console="off"))
    yield run
    run.finish()


def records(run: Any) -> Iterator[Any]:
    """What the file of an offline run holds, once that is finished: ``wandb sync`` uploads it."""
    from wandb.proto import wandb_internal_pb2

    [path] = Path(run.dir).parent.glob("*.wandb")
    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):  # LevelDB's format: blocks of 32 kB, in which records may be in parts
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            parsed = wandb_internal_pb2.Record()
            parsed.ParseFromString(record)
            yield parsed
            record = b""


def finish(run: Any) -> None:
    run.finish()
    # Another process writes the file, in some versions a moment later.
    until(lambda: any(each.WhichOneof("record_type") == "exit" for each in records(run)))


def system_metrics(run: Any) -> list[dict[str, float]]:
    rows = [each.stats.item for each in records(run) if each.WhichOneof("record_type") == "stats"]
    return [{item.key: json.loads(item.value_json) for item in row} for row in rows]


def test_wandb_has_each_row_as_system_metrics_and_the_users_steps_are_theirs(run, monitor):
    with export_to_wandb(monitor=monitor):
        for step in range(3):
            monitor.sample()
            run.log({"loss": step}, step=step)
    finish(run)
    assert system_metrics(run) == [
        {"cpu_percent": number / 4, "gpu0/memory_used_bytes": 2.0**40 + number} for number in (1, 2, 3)
    ]
    logged = [each.history for each in records(run) if each.WhichOneof("record_type") == "history"]
    assert [each.step.num for each in logged] == [0, 1, 2]
    assert monitor.errors == {}


def test_wandb_the_exporter_ends_with_the_run(run, monitor):
    exporter = export_to_wandb(run, monitor=monitor)
    monitor.sample()
    monitor.start()
    finish(run)
    until(lambda: not monitor._sample_subscribers._subscribers)
    monitor.stop()
    assert monitor.errors == {}
    assert exporter.missing == 0
    assert len(system_metrics(run)) >= 1


def test_wandb_that_is_disabled_gets_nothing_and_complains_of_nothing(monitor):
    disabled = wandb.init(mode="disabled")
    export_to_wandb(disabled, monitor=monitor)
    monitor.sample()
    until(lambda: not monitor._sample_subscribers._subscribers)
    assert monitor.errors == {}
    disabled.finish()


def test_wandb_without_a_run_says_what_to_do(monitor):
    with pytest.raises(ValueError, match=r"call wandb.init\(\) before, or pass run="):
        export_to_wandb(monitor=monitor)


def test_a_version_of_wandb_that_takes_no_system_metrics_is_named(monitor):
    class Run:
        id, disabled = "1", False

    with pytest.raises(RuntimeError, match=rf"wandb {wandb.__version__} takes no system metrics"):
        export_to_wandb(Run(), monitor=monitor)


# -- all at once -------------------------------------------------------------------------------------------


def test_all_three_at_once_while_the_monitor_runs(store, run, monitor, folder):
    with mlflow.start_run() as tracked, monitor:
        exporters = export_to_mlflow(), export_to_tensorboard(folder), export_to_wandb()
        until(lambda: len(monitor.history) > 20)
    for exporter in exporters:
        exporter.close()
    finish(run)
    assert monitor.errors == {}
    found = [each.value for each in store.get_metric_history(tracked.info.run_id, "system/cpu_percent")]
    written = [each.value for each in scalars(folder / "perfmon")["system/cpu_percent"]]
    sent = [each["cpu_percent"] for each in system_metrics(run)]
    taken = monitor.history["cpu_percent"].tolist()
    for rows in (found, written, sent):
        assert len(rows) > 10
        assert rows == taken[-len(rows) :]
    assert not math.isnan(taken[-1])
