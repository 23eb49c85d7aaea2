"""What each URL answers, without a server: api.answer with a monitor whose numbers are known."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.collectors import FakeCollector
from prometheus_client.parser import text_string_to_metric_families

from perfmon_widgets.core.csv_read import read_csv
from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.evidence import Finding
from perfmon_widgets.web import api, exposition

CURRENT, HISTORY, LOGGING, METRICS, FINDINGS, PROMETHEUS, VIEW, *FILES = api.ROUTES


@pytest.fixture
def monitor(folder: Path) -> Iterator[PerformanceMonitor]:
    """A stopped monitor of three columns in an empty working directory."""
    monitor = PerformanceMonitor(
        [FakeCollector("cpu_percent", "core0/cpu_percent", "gpu1/gi2ci3/power_watts")]
    )
    yield monitor
    monitor.stop()


def get(monitor: PerformanceMonitor | None, path: str, **query: str) -> api.Response:
    return api.answer(monitor, api.Request("GET", path, query))


def post(monitor: PerformanceMonitor, body: object, content_type: str = "application/json") -> api.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return api.answer(monitor, api.Request("POST", LOGGING, {}, content, content_type))


def content(response: api.Response, status: int = 200) -> Any:
    assert response.status == status, response
    assert response.content_type == "application/json"

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(response.body, parse_constant=refuse)


def message(response: api.Response, status: int) -> str:
    answered = content(response, status)
    assert set(answered) == {"message"}
    return answered["message"]


# -- reading -------------------------------------------------------------------------------------------


def test_current_is_the_newest_sample(monitor: PerformanceMonitor) -> None:
    monitor.sample()
    sample = monitor.sample()

    answered = content(get(monitor, CURRENT))

    assert answered["values"] == sample.values
    assert answered["time"] == f"{monitor.rows[0][-1]}Z"
    assert list(answered["values"]) == ["cpu_percent", "core0/cpu_percent", "gpu1/gi2ci3/power_watts"]


def test_before_the_first_sample_it_is_said_why(monitor: PerformanceMonitor) -> None:
    assert "not running" in message(get(monitor, CURRENT), 503)
    assert content(get(monitor, HISTORY))["time"] == []
    assert get(monitor, PROMETHEUS).status == 200


def test_what_json_cannot_say_is_null(folder: Path) -> None:
    values = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e308}
    monitor = PerformanceMonitor([FakeCollector(*values, read=lambda: values)])
    monitor.sample()
    assert list(content(get(monitor, CURRENT))["values"].values()) == [None, None, None, 1e308]
    assert list(content(get(monitor, HISTORY))["values"].values()) == [[None], [None], [None], [1e308]]


def test_history_is_the_data_frame(monitor: PerformanceMonitor) -> None:
    for _ in range(3):
        monitor.sample()
    frame = monitor.history

    answered = content(get(monitor, HISTORY))

    assert answered["columns"] == list(frame.columns)
    assert answered["values"] == {column: frame[column].tolist() for column in frame.columns}
    assert answered["time"] == [time.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for time in frame.index]


def test_a_history_that_is_made_in_parts_is_the_same(
    monitor: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        monitor.sample()
    whole = get(monitor, HISTORY).body
    for most in (1, 3, 5, 10):
        monkeypatch.setattr(api, "_VALUES_AT_ONCE", most)
        assert get(monitor, HISTORY).body == whole


def test_since_is_what_comes_after(monitor: PerformanceMonitor) -> None:
    for _ in range(4):
        monitor.sample()
    times = content(get(monitor, HISTORY))["time"]
    for number, time in enumerate(times):
        assert content(get(monitor, HISTORY, since=time))["time"] == times[number + 1 :]
        # What an unencoded plus in a URL becomes.
        assert content(get(monitor, HISTORY, since=f"{time[:-1]} 00:00"))["time"] == times[number + 1 :]
    polled = content(get(monitor, CURRENT))["time"]
    assert content(get(monitor, HISTORY, since=polled))["time"] == []
    monitor.sample()
    assert len(content(get(monitor, HISTORY, since=polled))["time"]) == 1


@pytest.mark.parametrize(
    "since",
    [
        "2000-01-01",
        "2000-01-01T00:00",
        "2000-01-01T00:00:00",
        "2000-01-01t00:00:00.123456789z",
        "2000-01-01 00:00:00,5+05:30",
        "2000-01-01T00:00:00-1200",
    ],
)
def test_since_may_be_any_iso_8601_time(monitor: PerformanceMonitor, since: str) -> None:
    monitor.sample()
    assert len(content(get(monitor, HISTORY, since=since))["time"]) == 1
    assert content(get(monitor, HISTORY, since=since.replace("2000", "9998")))["time"] == []


@pytest.mark.parametrize(
    "since",
    [
        "",
        "yesterday",
        "now",
        "NaT",
        "1700000000",
        "2000-13-01",
        "2000-01-01T24:30",
        "2000-01-01T00:00:00+99:00",
        "2000-01-01T00:00:00ZZ",
        "0001-01-01T00:00:00+12:00",
        "9999-12-31T23:59:59-12:00",
        "２０００-01-01",
        "2000-01-01T00:00\0",
    ],
)
def test_another_since_is_refused(monitor: PerformanceMonitor, since: str) -> None:
    assert message(get(monitor, HISTORY, since=since), 400).startswith("since: ")


def test_history_is_ten_minutes_of_a_longer_window(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = PerformanceMonitor([FakeCollector("cpu_percent")], window=7200)
    for minute in range(0, 60, 5):
        monkeypatch.setattr("perfmon_widgets.clocks.time.time", lambda minute=minute: 1e9 + 60 * minute)
        monitor.sample()
    monkeypatch.undo()
    assert content(get(monitor, HISTORY))["values"]["cpu_percent"] == [9, 10, 11]
    assert len(content(get(monitor, HISTORY, since="2000-01-01"))["time"]) == 12
    assert get(monitor, HISTORY, format="csv").body.count(b"\n") == 4


def test_history_as_csv_is_what_the_log_writes(monitor: PerformanceMonitor, folder: Path) -> None:
    monitor.sample()
    monitor.sample()
    response = get(monitor, HISTORY, format="csv")
    assert (response.status, response.content_type) == (200, "text/csv; charset=utf-8")
    assert response.body == monitor.log.start("run.csv").read_bytes()

    first = content(get(monitor, HISTORY))["time"][0]
    later = get(monitor, HISTORY, format="csv", since=first)
    (folder / "later.csv").write_bytes(later.body)
    assert read_csv(folder / "later.csv").equals(monitor.history.iloc[1:])


def test_a_series_that_was_recorded_is_a_column_like_the_others(monitor: PerformanceMonitor) -> None:
    monitor.sample()
    monitor.record(**{"train/loss": 0.5})
    # Known, but no row has it yet: what is answered fits together all the same.
    assert "train/loss" not in content(get(monitor, HISTORY))["columns"]
    assert get(monitor, HISTORY, format="csv").body.count(b"loss") == 0
    monitor.sample()
    answered = content(get(monitor, HISTORY))
    assert answered["columns"][-1] == "train/loss"
    assert answered["values"]["train/loss"] == [None, 0.5]
    assert content(get(monitor, CURRENT))["values"]["train/loss"] == 0.5
    assert content(get(monitor, METRICS))["metrics"]["train/loss"]["group"] == "recorded"
    header, first, second = get(monitor, HISTORY, format="csv").body.decode().splitlines()
    assert header.endswith(",train/loss")
    assert first.endswith(",")
    assert second.endswith(",0.5")
    assert 'perfmon_loss{where="train"} 0.5' in get(monitor, PROMETHEUS).body.decode()


def test_columns_that_are_added_under_fire_never_spoil_an_answer(monitor: PerformanceMonitor) -> None:
    done = threading.Event()

    def add() -> None:
        for number in range(80):
            monitor.record(**{f"series{number}": number})
            monitor.sample()
        done.set()

    adding = threading.Thread(target=add)
    adding.start()
    while not done.is_set():
        answered = content(get(monitor, HISTORY))
        assert all(len(values) == len(answered["time"]) for values in answered["values"].values())
        header, *lines = get(monitor, HISTORY, format="csv").body.decode().splitlines()
        assert {line.count(",") for line in lines} <= {header.count(",")}
        assert get(monitor, PROMETHEUS).status == 200
    adding.join()


@pytest.mark.parametrize("kind", ["", "xml", "CSV"])
def test_another_format_is_refused(monitor: PerformanceMonitor, kind: str) -> None:
    assert message(get(monitor, HISTORY, format=kind), 400).startswith("format: ")


def test_metrics_say_what_the_columns_mean() -> None:
    metric = Metric(
        "gpu0/power_watts", "watts", "gpu", "Power.", limit=math.inf, source="a call", device="A card"
    )
    monitor = PerformanceMonitor([FakeCollector("cpu_percent", metrics=[metric])])
    answered = content(get(monitor, METRICS))["metrics"]
    assert list(answered) == ["cpu_percent", "gpu0/power_watts"]
    assert answered["gpu0/power_watts"] == {
        "unit": "watts",
        "group": "gpu",
        "help": "Power.",
        "limit": None,
        "source": "a call",
        "device": "A card",
    }


def test_a_reader_never_samples(monitor: PerformanceMonitor) -> None:
    collector = monitor._sources._collectors["FakeCollector"]
    monitor.sample()
    for path, methods in api.ROUTES.items():
        for method in methods:
            api.answer(monitor, api.Request(method, path))
    assert collector.readings == 1  # type: ignore[attr-defined]


# -- Prometheus ----------------------------------------------------------------------------------------


def families(text: bytes) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def test_prometheus_gets_name_labels_help_and_type(monitor: PerformanceMonitor) -> None:
    monitor.sample()
    response = get(monitor, PROMETHEUS)
    assert (response.status, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    answered = families(response.body)
    assert set(answered) == {"perfmon_cpu_percent", "perfmon_power_watts", "perfmon_sample_time_seconds"}
    assert {family.type for family in answered.values()} == {"gauge"}
    assert answered["perfmon_cpu_percent"].documentation == "About cpu_percent."
    assert [sample.labels for sample in answered["perfmon_cpu_percent"].samples] == [{}, {"core": "0"}]
    assert answered["perfmon_power_watts"].samples[0].labels == {"gpu": "1", "gi": "2", "ci": "3"}
    assert answered["perfmon_sample_time_seconds"].samples[0].value == monitor.latest.time  # type: ignore[union-attr]


def test_prometheus_text_keeps_the_rules_of_promtool(folder: Path) -> None:
    """The rules of `promtool check metrics`, as far as they are about gauges."""
    with PerformanceMonitor() as monitor:
        monitor.sample()
    text = get(monitor, PROMETHEUS).body
    for name, family in families(text).items():
        assert re.fullmatch(r"[a-z_][a-z0-9_]*", name)
        assert family.documentation
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_info", "_gauge"))
        assert not re.search(r"_(milli|kilo|mega|kibi|mebi|ms|kb|mb)", name)
    series = [line.rpartition(" ")[0] for line in text.decode().splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))


def test_prometheus_is_spared_what_would_spoil_the_scrape() -> None:
    names = (
        "a b_percent",
        "a-b_percent",
        "scratch disk/x_percent",
        "n1x/y/x_percent",
        "Größe_percent",
        "missing_percent",
    )
    values = dict.fromkeys(names, 1.0) | {"missing_percent": math.nan}
    metrics = [Metric(name, "percent", "cpu", 'A "quote", a \\ and\na line.') for name in names]
    monitor = PerformanceMonitor([FakeCollector(metrics=metrics, read=lambda: values)])
    monitor.sample()
    answered = families(get(monitor, PROMETHEUS).body)
    # Both would be one series.
    assert [sample.labels for sample in answered["perfmon_a_b_percent"].samples] == [
        {},
        {"column": "a-b_percent"},
    ]
    assert [sample.labels for sample in answered["perfmon_x_percent"].samples] == [
        {"where": "scratch disk"},
        {"where": "n1x/y"},
    ]
    assert answered["perfmon_missing_percent"].samples == []
    assert len(answered["perfmon_Gr__e_percent"].samples) == 1


def test_columns_that_would_be_one_series_are_distinguished_also_while_one_is_missing() -> None:
    monitor = PerformanceMonitor([])
    monitor.record(é_loss=1.0, è_loss=2.0, sample_time_seconds=5.0, **{"a2/x": 3.0, "a1a2/x": 4.0})
    newest = monitor.sample().time
    answered = families(get(monitor, PROMETHEUS).body)
    expected = [({}, 1.0), ({"column": "è_loss"}, 2.0)]
    assert [(one.labels, one.value) for one in answered["perfmon___loss"].samples] == expected
    expected = [({"a": "2"}, 3.0), ({"a": "2", "column": "a1a2/x"}, 4.0)]
    assert [(one.labels, one.value) for one in answered["perfmon_x"].samples] == expected
    expected = [({"column": "sample_time_seconds"}, 5.0), ({}, newest)]
    assert [(one.labels, one.value) for one in answered["perfmon_sample_time_seconds"].samples] == expected
    monitor.record(è_loss=2.0)
    monitor.sample()
    answered = families(get(monitor, PROMETHEUS).body)
    assert [one.labels for one in answered["perfmon___loss"].samples] == [{"column": "è_loss"}]


def test_no_label_is_made_that_is_not_ours_to_make() -> None:
    """Two underscores in front are Prometheus' own; by kernel_id the Jupyter server tells kernels apart."""
    monitor = PerformanceMonitor([])
    monitor.record(**{"__x1/loss": 1.0, "kernel_id1/loss": 2.0, "where1/loss": 3.0, "_x1/loss": 4.0})
    monitor.sample()
    answered = families(exposition.joined({"one": get(monitor, PROMETHEUS).body}))
    assert [(sample.labels, sample.value) for sample in answered["perfmon_loss"].samples] == [
        ({"where": "__x1", "kernel_id": "one"}, 1.0),
        ({"where": "kernel_id1", "kernel_id": "one"}, 2.0),
        ({"where": "where1", "kernel_id": "one"}, 3.0),
        ({"_x": "1", "kernel_id": "one"}, 4.0),
    ]


@pytest.mark.parametrize(
    "broken",
    [
        b"perfmon_ram_bytes 1\n{{{\n",
        b"perfmon_ram_bytes much\n",
        b"perfmon_ram_bytes 1\n\xff 1\n",
        b'perfmon_ram_bytes{a="1',
    ],
)
def test_a_kernel_that_cannot_be_understood_costs_its_own_series_only(
    monitor: PerformanceMonitor, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    monitor.sample()
    text = get(monitor, PROMETHEUS).body
    joined = exposition.joined({"one": text, "broken": broken, "two": text})
    assert joined == exposition.joined({"one": text, "two": text})
    assert "kernel broken" in caplog.text


def test_expositions_of_several_kernels_join(monitor: PerformanceMonitor) -> None:
    monitor.sample()
    text = get(monitor, PROMETHEUS).body
    answered = families(exposition.joined({"one": text, "two": text}))
    assert [sample.labels for sample in answered["perfmon_cpu_percent"].samples] == [
        {"kernel_id": "one"},
        {"core": "0", "kernel_id": "one"},
        {"kernel_id": "two"},
        {"core": "0", "kernel_id": "two"},
    ]
    assert exposition.joined({}) == b""


# -- switching the log ---------------------------------------------------------------------------------


def test_the_log_is_switched_on_and_off(monitor: PerformanceMonitor, folder: Path) -> None:
    assert content(get(monitor, LOGGING)) == {"enabled": False, "path": None, "rows": 0}
    monitor.sample()
    on = {"enabled": True, "path": "run.csv", "rows": 1}
    assert content(post(monitor, {"enabled": True, "path": "run.csv"})) == on
    assert content(post(monitor, {"enabled": True, "path": "run.csv"})) == on  # again changes nothing
    assert content(post(monitor, {"enabled": True})) == on
    monitor.sample()
    assert content(get(monitor, LOGGING)) == {**on, "rows": 2}
    assert content(post(monitor, {"enabled": False})) == {"enabled": False, "path": "run.csv", "rows": 2}
    assert content(post(monitor, {"enabled": False}))["enabled"] is False
    assert len(read_csv(folder / "run.csv")) == 2
    assert content(post(monitor, {"enabled": True, "path": "run.csv"}))["path"] == "run-2.csv"


def test_without_a_path_the_file_is_named_by_the_time(monitor: PerformanceMonitor, folder: Path) -> None:
    answered = content(post(monitor, {"enabled": True, "path": None}, "Application/JSON; charset=utf-8"))
    assert re.fullmatch(r"perfmon-\d{8}-\d{6}\.csv", answered["path"])
    assert (folder / answered["path"]).exists()


def test_a_second_log_is_refused_and_the_first_goes_on(monitor: PerformanceMonitor, folder: Path) -> None:
    post(monitor, {"enabled": True, "path": "run.csv"})
    refused = message(post(monitor, {"enabled": True, "path": "other.csv"}), 409)
    assert refused == "path: already logging to run.csv; switch that log off first"
    assert content(get(monitor, LOGGING))["enabled"] is True
    assert os.listdir(folder) == ["run.csv"]


OUTSIDE = [
    "../x.csv",
    "..",
    ".",
    "",
    "/tmp/x.csv",
    "a/b.csv",
    "a\\b.csv",
    "x\0.csv",
    "x\n.csv",
    "~/x.csv",
    "~root.csv",
    "/dev/null",
    "/dev/sda",
    "/proc/self/mem",
    ".hidden.csv",
    "x.py",
    "x",
    "\ud800.csv",
    "é" * 130 + ".csv",
    "C:\\x.csv",
    "//server/share/x.csv",
    "%2e%2e%2fx.py",
    "-rf.csv",
    "--output=x.csv",
    "a b.csv",
    "größe.csv",
    "x;y.csv",
    "$(x).csv",
    "x.csv\n",
    "٣.csv",
    "x" * 252 + ".csv",
]


@pytest.mark.parametrize("name", [*OUTSIDE, 1, True, [], {}, 1.5, ["x.csv"]])
@pytest.mark.parametrize("enabled", [True, False])
def test_a_path_is_a_file_name_and_nothing_else(
    monitor: PerformanceMonitor, folder: Path, name: object, enabled: bool
) -> None:
    assert message(post(monitor, {"enabled": enabled, "path": name}), 400).startswith("path: ")
    assert monitor.log.running is False
    assert os.listdir(folder) == []


def test_no_link_leads_out(monitor: PerformanceMonitor, folder: Path, tmp_path_factory: Any) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (folder / "out.csv").symlink_to(outside / "not-there-yet.csv")
    (folder / "device.csv").symlink_to("/dev/null")
    (folder / "loop.csv").symlink_to("loop.csv")
    (folder / "inside.csv").symlink_to("target.csv")
    os.mkfifo(folder / "pipe.csv")
    for name in ("out.csv", "device.csv", "pipe.csv"):
        assert message(post(monitor, {"enabled": True, "path": name}), 400).startswith("path: is a ")
    assert not monitor.log.running
    assert os.listdir(outside) == []
    # A link within the directory is a file that exists, and so is not touched.
    assert content(post(monitor, {"enabled": True, "path": "inside.csv"}))["path"] == "inside-2.csv"
    assert not (folder / "target.csv").exists()
    monitor.log.stop()
    # A name that is taken by a link only at the second number is not followed either.
    (folder / "run.csv").touch()
    (folder / "run-2.csv").symlink_to(outside / "x.csv")
    assert content(post(monitor, {"enabled": True, "path": "run.csv"}))["path"] == "run-3.csv"
    assert os.listdir(outside) == []


BAD_BODIES = [
    (b"", "body"),
    (b"{", "body"),
    (b"\xff", "body"),
    (b"[" * 9000, "body"),
    (b"null", "body"),
    (b"[]", "body"),
    (b'"x"', "body"),
    (b"NaN", "body"),
    (b"{}", "enabled"),
    (b'{"enabled": 1}', "enabled"),
    (b'{"enabled": "true"}', "enabled"),
    (b'{"enabled": null}', "enabled"),
    (b'{"enabled": NaN}', "enabled"),
    (b'{"path": "x.csv"}', "enabled"),
    (b'{"enabled": true, "pfad": "x.csv"}', "'pfad'"),
    (b'{"enabled": ' + b"1" * 5000 + b"}", "body|enabled"),
]


@pytest.mark.parametrize(("body", "field"), BAD_BODIES)
def test_a_bad_body_names_the_field_and_changes_nothing(
    monitor: PerformanceMonitor, folder: Path, body: bytes, field: str
) -> None:
    for running in (False, True):
        if running:
            monitor.log.start("run.csv")
        assert re.match(f"({field}): ", message(post(monitor, body), 400))
        assert monitor.log.running is running


def test_only_json_of_a_sensible_length_is_read(monitor: PerformanceMonitor, folder: Path) -> None:
    for kind in (
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
    ):
        assert message(post(monitor, {"enabled": True}, kind), 415).startswith("Content-Type: ")
    long = b'{"enabled": true}' + b" " * api.LARGEST_BODY
    assert message(post(monitor, long), 413).startswith("body: ")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EIO])
def test_an_unwritable_file_is_reported_with_the_reason_but_not_the_place(
    monitor: PerformanceMonitor, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr("perfmon_widgets.core.log_parts.os.open", fail)
    answered = message(post(monitor, {"enabled": True, "path": "run.csv"}), 409)
    assert os.strerror(number) in answered
    assert str(folder) not in answered
    state = {"enabled": False, "path": None, "rows": 0, "error": os.strerror(number)}
    assert content(get(monitor, LOGGING)) == state


def test_a_directory_of_that_name_or_none_to_write_in_is_reported(
    monitor: PerformanceMonitor, folder: Path
) -> None:
    (folder / "run.csv").mkdir()
    assert "Is a directory" in message(post(monitor, {"enabled": True, "path": "run.csv"}), 409)
    gone = folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    for body in ({"enabled": True}, {"enabled": True, "path": "x.csv"}):
        answered = message(post(monitor, body), 409)
        assert "No such file" in answered
        assert str(folder) not in answered


def test_a_log_that_has_switched_itself_off_says_why(monitor: PerformanceMonitor, folder: Path) -> None:
    post(monitor, {"enabled": True, "path": "run.csv"})
    (folder / "run.csv").unlink()
    monitor.sample()
    answered = content(get(monitor, LOGGING))
    assert answered == {"enabled": False, "path": "run.csv", "rows": 0, "error": os.strerror(errno.ENOENT)}
    assert "error" not in content(post(monitor, {"enabled": True, "path": "run.csv"}))


# -- what is asked wrongly -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["", "/", "/api/performance", f"{CURRENT}/", "/api/performance/nothing", "/METRICS"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_an_unknown_path_is_not_found(monitor: PerformanceMonitor, method: str, path: str) -> None:
    assert message(api.answer(monitor, api.Request(method, path)), 404).startswith("path: ")


@pytest.mark.parametrize("path", api.ROUTES)
@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "get", "X"]
)
def test_a_method_that_is_not_in_the_table_is_refused(
    monitor: PerformanceMonitor, method: str, path: str
) -> None:
    if method not in api.methods(path):
        assert message(api.answer(monitor, api.Request(method, path)), 405).startswith("method: ")


def test_without_a_monitor_it_is_said_how_to_start_one() -> None:
    for path in api.ROUTES:
        assert "PerformanceMonitor()" in message(get(None, path), 404)


def test_what_nobody_foresaw_is_logged_and_not_shown(
    monitor: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> api.Response:
        raise ValueError("/secret/path")

    monkeypatch.setitem(api.ROUTES, CURRENT, {"GET": fail})
    assert "secret" not in message(get(monitor, CURRENT), 500)
    assert "secret" in caplog.text


# -- findings ----------------------------------------------------------------------------------------------


def test_findings_are_those_of_the_monitor(monitor, monkeypatch):
    assert content(get(monitor, FINDINGS)) == {"findings": []}
    found = Finding("warning", "GPU 0 waits for the CPU", "busy 40% of the time", "use more workers")
    monkeypatch.setattr(monitor, "findings", lambda: [found])
    assert content(get(monitor, FINDINGS)) == {
        "findings": [
            {
                "severity": "warning",
                "what": "GPU 0 waits for the CPU",
                "evidence": "busy 40% of the time",
                "advice": "use more workers",
            }
        ]
    }
    message(api.answer(monitor, api.Request("POST", FINDINGS, {}, b"{}", "application/json")), 405)


def test_a_long_history_is_made_while_it_is_read(
    monitor: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        monitor.sample()
    for kind in ("json", "csv"):
        whole = get(monitor, HISTORY, format=kind).content
        with monkeypatch.context() as patch:
            patch.setattr(api, "_FEW_VALUES", 0)
            patch.setattr("perfmon_widgets.core.parts._SIZE", 100)
            patch.setattr("perfmon_widgets.core.csv_log._LINES_AT_ONCE", 3)
            long = get(monitor, HISTORY, format=kind)
            assert not isinstance(long.content, bytes)
            parts = [*long.parts]
        assert len(parts) > 1
        assert b"".join(parts) == whole
