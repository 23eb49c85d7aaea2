"""What the live page is sent."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.collectors import FakeCollector

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.death import Cell, Death
from perfmon_widgets.views.evidence import Finding
from perfmon_widgets.views.figures import section
from perfmon_widgets.views.gauges import readings
from perfmon_widgets.views.local_time import set_zone, zone_name
from perfmon_widgets.views.stretches import LOOKS
from perfmon_widgets.web import api, death
from perfmon_widgets.web.page import VIEW
from perfmon_widgets.web.request import Request

COLUMNS = [
    Metric("cpu_percent", "percent", "cpu", "CPU.", source="/proc/stat"),
    Metric("ram_percent", "percent", "memory", "RAM."),
    Metric("ram_used_bytes", "bytes", "memory", "RAM used.", limit="ram_limit_bytes"),
    Metric("ram_limit_bytes", "bytes", "memory", "RAM limit."),
    Metric("disk_percent", "percent", "disk", "Disk."),
]


@pytest.fixture
def monitor(folder: Path) -> Iterator[PerformanceMonitor]:
    monitor = PerformanceMonitor([FakeCollector(metrics=COLUMNS)], interval=3600)
    monitor.sample()
    monitor.sample()
    yield monitor
    monitor.stop()


def ask(monitor: Any, **query: object) -> Any:
    response = api.answer(monitor, Request("GET", VIEW, {name: str(each) for name, each in query.items()}))
    assert response.status == 200, response.body
    return json.loads(response.body)


def section_of(shown: Any, group: str) -> Any:
    [found] = [each for each in shown["sections"] if each["group"] == group]
    return found


def names_behind(shown: Any) -> list[str]:
    """The names of cells, spans and marks that are shown."""
    return [words for _, _, words in shown["behind"]["names"]]


def has(shown: Any) -> dict[str, str]:
    """What a page sends with its next request."""
    return {"since": shown["newest"], "have": shown["have"]}


def test_the_gauges_are_those_of_the_panel(monitor: PerformanceMonitor) -> None:
    shown = ask(monitor)
    found = readings(monitor.metrics, monitor.latest, monitor.errors)
    assert list(shown["gauges"]) == list(found)
    assert shown["gauges"]["CPU"]["value"] == 1.0
    assert shown["gauges"]["GPU"] == {"detail": found["GPU"].detail}
    assert (shown["state"], shown["interval"]) == ("stopped", 3600)
    monitor.interval = 10
    assert ask(monitor, **has(shown))["interval"] == 10  # also without a new sample


def test_the_first_two_sections_are_open_and_the_rest_only_named(monitor: PerformanceMonitor) -> None:
    shown = ask(monitor)
    assert [(each["group"], "figures" in each) for each in shown["sections"]] == [
        ("cpu", True),
        ("memory", True),
        ("disk", False),
    ]
    memory = section_of(shown, "memory")
    drawn = section("memory", monitor.metrics)
    assert [each["names"] for each in memory["figures"]] == [
        [[line.label, place] for place, line in enumerate(each.lines)] for each in drawn
    ]
    assert memory["figures"][0]["title"] == "Memory, %"
    assert memory["figures"][0]["ticks"][-1] == [100.0, "100"]
    lines = {line.name: line.color for figure in section("memory", monitor.metrics) for line in figure.lines}
    assert [(row["name"], row.get("color")) for row in memory["rows"]] == [
        ("ram_percent", lines["ram_percent"]),
        ("ram_used_bytes", lines.get("ram_used_bytes")),
        ("ram_limit_bytes", None),
    ]
    assert memory["table"] == {
        "cells": [["1%", "0.5%", "1%"], ["1 B", "0.5 B", "1 B"], ["1 B", "0.5 B", "1 B"]],
        "reasons": {},
    }
    assert section_of(shown, "cpu")["rows"][0]["about"] == "CPU. /proc/stat"


def test_figures_have_the_times_of_the_reader(monitor: PerformanceMonitor) -> None:
    shown = ask(monitor, zone="Asia/Kolkata", minutes="330")
    assert shown["axis"]["zone"] == "IST"
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", label) for _, label in shown["axis"]["ticks"])
    wrong = api.answer(monitor, Request("GET", VIEW, {"zone": "Asia/Kolkata", "minutes": "late"}))
    assert (wrong.status, json.loads(wrong.body)) == (400, {"message": "minutes: must be a number"})


def test_the_times_of_one_reader_are_not_those_of_another(monitor: PerformanceMonitor) -> None:
    """A request is answered on a thread of its own, while the panel and other pages draw on theirs."""
    set_zone("Europe/Berlin", 60)
    wrong: list[str] = []

    def draw(zone: str, name: str) -> None:
        for _ in range(20):
            found = ask(monitor, zone=zone, open="cpu")["axis"]["zone"]
            wrong.extend({found} - {name})

    zones = {"Asia/Kolkata": "IST", "Asia/Tokyo": "JST"}
    threads = [threading.Thread(target=draw, args=each) for each in zones.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert zone_name(0.0) == "CET"


def test_the_page_says_which_sections_are_open(monitor: PerformanceMonitor) -> None:
    opened = [each["group"] for each in ask(monitor, open="disk,none")["sections"] if "figures" in each]
    assert opened == ["disk"]
    assert not [each for each in ask(monitor, open="")["sections"] if "figures" in each]


def test_a_group_with_any_name_can_be_open(folder: Path) -> None:
    metrics = [Metric("a_percent", "percent", "a, b/ü", "")]
    monitor = PerformanceMonitor([FakeCollector(metrics=metrics)], interval=3600)
    monitor.sample()
    [shown] = ask(monitor, open="a%2C%20b%2F%C3%BC")["sections"]
    assert shown["figures"]


def test_only_what_is_new_is_sent(monitor: PerformanceMonitor) -> None:
    first = ask(monitor)
    again = ask(monitor, **has(first))
    assert again["gauges"] == first["gauges"]
    assert "sections" not in again
    monitor.sample()
    shown = ask(monitor, **has(first))
    new = section_of(shown, "cpu")
    assert [new["table"]["cells"][0][at] for at in (0, 2)] == ["2%", "2%"]
    assert new["figures"][0]["values"] == ["2"]
    assert len(shown["axis"]["times"]) == 1
    assert not {"rows", "grid"} & set(new)
    assert not {"lines", "names"} & set(new["figures"][0])
    assert "colors" not in shown["axis"]


@pytest.mark.parametrize("change", [{"open": "disk"}, {"have": "other"}, {"since": "1970-01-01"}])
def test_a_page_that_asks_for_something_else_is_sent_all_of_it(
    monitor: PerformanceMonitor, change: dict[str, object]
) -> None:
    first = ask(monitor)
    monitor.sample()
    shown = ask(monitor, **(has(first) | change))
    figures = [figure for each in shown["sections"] for figure in each.get("figures", ())]
    assert [len(figure["values"][0].split(",")) for figure in figures] == [3] * len(figures)
    if "since" not in change:
        assert "colors" in shown["axis"]
        assert all("lines" in figure for figure in figures)


def test_a_series_that_was_added_brings_the_names_again(monitor: PerformanceMonitor) -> None:
    first = ask(monitor, open="recorded")
    monitor.record(loss=0.5)
    monitor.sample()
    shown = ask(monitor, open="recorded", **has(first))
    assert section_of(shown, "recorded")["rows"][0]["name"] == "loss"


def test_a_line_that_has_its_first_value_is_sent_with_its_name(folder: Path) -> None:
    """As the power of a GPU that is used from now on."""
    values = {"cpu_percent": 1.0}
    monitor = PerformanceMonitor([FakeCollector(metrics=COLUMNS, read=lambda: values)], interval=3600)
    monitor.sample()
    first = ask(monitor, open="cpu,disk")
    assert section_of(first, "disk")["figures"] == []
    values["disk_percent"] = 50.0
    monitor.sample()
    shown = section_of(ask(monitor, open="cpu,disk", **has(first)), "disk")
    assert shown["figures"][0]["names"] == [["disk", 0]]
    assert shown["figures"][0]["values"] == ["nan,50"]


def test_another_monitor_brings_its_names_and_points(folder: Path) -> None:
    """As after a restart of the program at the same address."""

    def monitor_of(*names: str) -> PerformanceMonitor:
        metrics = [Metric(name, "percent", "cpu", "", label=name) for name in names]
        monitor = PerformanceMonitor([FakeCollector(metrics=metrics)], interval=3600)
        monitor.sample()
        return monitor

    monitor = monitor_of("a_percent", "b_percent")
    first = ask(monitor)
    monitor.sample()
    assert "rows" not in section_of(ask(monitor, **has(first)), "cpu")
    same, other = monitor_of("a_percent", "b_percent"), monitor_of("a_percent", "c_percent")
    assert [row["name"] for row in section_of(ask(same, **has(first)), "cpu")["rows"]] == [
        "a_percent",
        "b_percent",
    ]
    assert [row["name"] for row in section_of(ask(other, **has(first)), "cpu")["rows"]] == [
        "a_percent",
        "c_percent",
    ]


def test_of_a_long_history_only_what_is_shown_is_read(monitor: PerformanceMonitor, monkeypatch: Any) -> None:
    asked = []
    newest_rows = monitor.newest_rows
    monkeypatch.setattr(monitor, "newest_rows", lambda seconds: asked.append(seconds) or newest_rows(seconds))
    ask(monitor, window=60)
    ask(monitor)
    assert asked == [60, 600]


def test_a_recorded_value_holds_until_the_next(monitor: PerformanceMonitor) -> None:
    monitor.record(loss=0.5)
    monitor.sample()
    monitor.sample()
    assert section_of(ask(monitor, open="recorded"), "recorded")["table"]["cells"][0][0] == "0.5"


def test_before_the_first_sample_there_are_titles_only(folder: Path) -> None:
    shown = ask(PerformanceMonitor([FakeCollector(metrics=COLUMNS)], interval=3600))
    assert (shown["newest"], shown["time"], shown["state"]) == (None, None, "stopped")
    assert shown["sections"][0] == {"group": "cpu", "title": "CPU"}


def test_the_window_is_one_of_those_of_the_panel(monitor: PerformanceMonitor) -> None:
    shown = ask(monitor)
    assert shown["windows"] == [
        {"seconds": 60.0, "words": "1 min"},
        {"seconds": 300.0, "words": "5 min"},
        {"seconds": 600.0, "words": "10 min"},
    ]
    assert shown["window"] == 600.0
    assert ask(monitor, window=60)["window"] == 60.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window", "x"),
        ("window", "nan"),
        ("window", "0"),
        ("window", "-inf"),
        ("width", "wide"),
        ("width", "nan"),
        ("minutes", "inf"),
        ("since", "yesterday"),
    ],
)
def test_what_is_wrong_is_named(monitor: PerformanceMonitor, field: str, value: str) -> None:
    refused = api.answer(monitor, Request("GET", VIEW, {"zone": "No/Such_Zone", field: value}))
    assert refused.status == 400
    assert json.loads(refused.body)["message"].startswith(f"{field}: ")


def test_a_wide_figure_has_more_times(monitor: PerformanceMonitor) -> None:
    count = {asked: len(ask(monitor, width=asked)["axis"]["ticks"]) for asked in ("1", "280", "1000", "inf")}
    assert count["1"] == count["280"] < count["1000"] == count["inf"]


def test_cells_spans_and_marks_are_sent_with_their_names(monitor: PerformanceMonitor) -> None:
    with monitor.span("</text><script>1"):
        monitor.mark("here")
        monitor.sample()
        shown = ask(monitor)
    assert set(names_behind(shown)) == {"here", "</text><script>1"}
    layers = {each["color"]: each for each in shown["behind"]["layers"]}
    span, mark = layers[LOOKS["span 0"].color], layers[LOOKS["mark"].color]
    assert span["at"][0][1] == shown["axis"]["end"]
    assert shown["axis"]["start"] < mark["at"][0][0] <= shown["axis"]["end"]
    assert (mark["bottom"], mark["top"]) == (0.0, 1.0)


def test_a_missing_number_has_its_reason(folder: Path) -> None:
    def fail() -> dict[str, float]:
        raise OSError("the source is broken")

    monitor = PerformanceMonitor([FakeCollector(metrics=COLUMNS, read=fail)], interval=3600)
    monitor.sample()
    table = section_of(ask(monitor), "cpu")["table"]
    assert table["cells"] == [["–", "–", "–"]]
    assert "the source is broken" in table["reasons"]["cpu_percent"]


def test_the_verdict_is_the_pressing_finding_of_a_running_monitor(
    monitor: PerformanceMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Finding("warning", "GPU 0 waits", "busy 40%", "use more workers")
    monkeypatch.setattr(monitor, "findings", lambda: [found])
    assert "verdict" not in ask(monitor)
    monitor.start()
    assert ask(monitor)["verdict"] == {
        "severity": "warning",
        "what": "GPU 0 waits",
        "evidence": "busy 40%",
        "advice": "use more workers",
    }


def test_the_log_is_told(monitor: PerformanceMonitor) -> None:
    monitor.log.start("run.csv")
    assert ask(monitor)["log"] == {"enabled": True, "path": "run.csv", "rows": 2}


def test_many_cpus_are_a_map_and_a_refresh_stays_small(folder: Path) -> None:
    cores = [Metric(f"core{number}/cpu_percent", "percent", "cpu", "", role="part") for number in range(64)]
    gpus = [
        Metric(f"gpu{number}/{what}", unit, "gpu", "")
        for number in range(8)
        for what, unit in (
            ("utilization_percent", "percent"),
            ("memory_used_bytes", "bytes"),
            ("power_watts", "watts"),
        )
    ]

    def wave(row: int) -> list[float]:
        return [50 + 50 * math.sin(row * 0.3 + at) for at in range(len(metrics))]

    metrics = [*gpus, *COLUMNS, *cores]
    names = [metric.name for metric in metrics]
    read = lambda: dict(zip(names, wave(300), strict=True))  # noqa: E731
    monitor = PerformanceMonitor([FakeCollector(metrics=metrics, read=read)], interval=3600)
    for row in range(300):
        monitor._history.append(time.time() - 300 + row, wave(row))
    monitor.sample()
    shown = section_of(ask(monitor, open="cpu"), "cpu")
    drawn = shown["figures"][1]
    assert "CPUs by number" in drawn["title"]
    assert drawn["words"].endswith(" and 56 more")
    assert drawn["labels"] == [[0, "0"], [16, "16"], [32, "32"], [48, "48"], [63, "63"]]
    assert {len(column) for column in drawn["columns"]} == {64}
    everything = ",".join(each["group"] for each in ask(monitor)["sections"])
    first = ask(monitor, width=460, open=everything)
    monitor.sample()
    refreshed = ask(monitor, width=460, open=everything, **has(first))
    assert len(json.dumps(first)) <= 30_000
    assert len(json.dumps(refreshed)) <= 10_000
    gpu = section_of(first, "gpu")
    assert [place["label"] for place in gpu["grid"]["places"]] == [f"GPU {number}" for number in range(8)]
    assert gpu["grid"]["columns"] == ["utilization", "memory used", "power"]
    maps = [figure["labels"] for figure in gpu["figures"] if "labels" in figure]
    assert [[label for _, label in labels] for labels in maps] == [[f"GPU {7 - at}" for at in range(8)]]


def test_the_one_that_lags_is_marked(folder: Path) -> None:
    metrics = [Metric(f"gpu{gpu}/utilization_percent", "percent", "gpu", "") for gpu in range(4)]
    busy = {"gpu0/utilization_percent": 90.0, "gpu1/utilization_percent": 20.0}
    busy |= {"gpu2/utilization_percent": 91.0, "gpu3/utilization_percent": 89.0}
    monitor = PerformanceMonitor([FakeCollector(metrics=metrics, read=lambda: busy)], interval=3600)
    for ago in range(40, 0, -1):
        monitor._history.append(time.time() - ago, [*busy.values()])
    monitor.sample()
    first = ask(monitor)
    lags = section_of(first, "gpu")["table"]["lags"]
    assert lags["column"] == "gpu1/utilization_percent"
    assert lags["why"] == "busy 20% of the time, the other 3 are 90%"
    # To look for it takes time: that is not done for every sample, but whenever the table is made anew.
    monitor.sample()
    again = ask(monitor, **(has(first) | {"have": "other"}))
    assert section_of(again, "gpu")["table"]["lags"] == lags


def test_a_monitor_of_another_kind_is_shown_without_gaps(monitor: PerformanceMonitor) -> None:
    class Other:
        """Has what the protocol asks for, and nothing else."""

        def __getattr__(self, name: str) -> Any:
            if name in ("newest_rows", "findings"):
                raise AttributeError(name)
            return getattr(monitor, name)

    assert section_of(ask(Other()), "cpu")["table"] == section_of(ask(monitor), "cpu")["table"]


def test_of_a_dead_kernel_the_last_minutes_are_shown() -> None:
    columns = [
        ("cpu_percent", "percent", "CPU"),
        ("ram_percent", "percent", "RAM"),
        ("core0/cpu_percent", "percent", "CPU 0"),
    ]
    series = {"cpu_percent": [5.0, 7.0], "ram_percent": [50.0, 97.5], "core0/cpu_percent": [math.nan, 1.0]}
    dead = Death(1.5, Cell(3, "a = 1", 0.5), "certain", "RAM 97%; killed", columns, [1.0, 1.5], series)
    request = Request("GET", VIEW, {"open": "memory"})
    assert death.answers(request)
    shown = json.loads(death.answer(dead, request).body)
    assert shown["death"] == str(dead)
    assert (shown["state"], shown["time"], shown["newest"]) == ("stopped", 1.5, "1970-01-01T00:00:01.500000Z")
    assert shown["gauges"]["RAM"]["value"] == 97.5
    assert section_of(shown, "memory")["table"]["cells"] == [["98%", "74%", "98%"]]
    assert section_of(shown, "memory")["figures"]
    assert "log" not in shown


def test_new_points_are_sent_at_once_and_all_of_them_by_a_thread_of_its_own(
    monitor: PerformanceMonitor,
) -> None:
    first = Request("GET", VIEW)
    again = Request("GET", VIEW, {"have": "x"})
    assert api.may_take_long(monitor, first)
    assert not api.may_take_long(monitor, again)
    # With a history of which a copy takes long, it depends on how many rows there may be.
    quick = PerformanceMonitor([FakeCollector(metrics=COLUMNS)], interval=0.01)
    quick.sample()
    assert api.may_take_long(quick, again)
