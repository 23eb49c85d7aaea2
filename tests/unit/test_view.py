"""What the live page is sent."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fakes.collectors import FakeCollector

from perfmon_widgets import PerformanceMonitor
from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.death import Cell, Death
from perfmon_widgets.views.evidence import Finding
from perfmon_widgets.views.figures import section
from perfmon_widgets.views.gauges import readings
from perfmon_widgets.views.local_time import set_zone, zone_name
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


def words_in(svg: str) -> list[str]:
    """The texts of a picture; fails if it is no XML."""
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_gauges_are_those_of_the_panel(monitor: PerformanceMonitor) -> None:
    shown = ask(monitor)
    found = readings(monitor.metrics, monitor.latest, monitor.errors)
    assert list(shown["gauges"]) == list(found)
    assert shown["gauges"]["CPU"]["value"] == 1.0
    assert shown["gauges"]["GPU"] == {"detail": found["GPU"].detail}
    assert (shown["state"], shown["interval"]) == ("stopped", 3600)


def test_the_first_two_sections_are_open_and_the_rest_only_named(monitor: PerformanceMonitor) -> None:
    shown = ask(monitor)
    assert [(each["group"], "figures" in each) for each in shown["sections"]] == [
        ("cpu", True),
        ("memory", True),
        ("disk", False),
    ]
    memory = section_of(shown, "memory")
    drawn = section("memory", monitor.metrics)
    assert [words_in(each["svg"])[1] for each in memory["figures"]] == [each.lines[0].label for each in drawn]
    assert memory["figures"][0]["words"].startswith("Memory, % over time: ")
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
    assert words_in(section_of(shown, "cpu")["figures"][0]["svg"])[-1] == "IST"
    wrong = api.answer(monitor, Request("GET", VIEW, {"zone": "Asia/Kolkata", "minutes": "late"}))
    assert (wrong.status, json.loads(wrong.body)) == (400, {"message": "minutes: must be a number"})


def test_the_times_of_one_reader_are_not_those_of_another(monitor: PerformanceMonitor) -> None:
    """A request is answered on a thread of its own, while the panel and other pages draw on theirs."""
    set_zone("Europe/Berlin", 60)
    wrong: list[str] = []

    def draw(zone: str, name: str) -> None:
        for _ in range(20):
            words = words_in(section_of(ask(monitor, zone=zone, open="cpu"), "cpu")["figures"][0]["svg"])
            wrong.extend(word for word in words[-1:] if word != name)

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
    later = {"since": first["newest"], "columns": first["columns"]}
    again = ask(monitor, **later)
    assert again["gauges"] == first["gauges"]
    assert "sections" not in again
    monitor.sample()
    new = section_of(ask(monitor, **later), "cpu")
    assert [new["table"]["cells"][0][at] for at in (0, 2)] == ["2%", "2%"]
    assert new["figures"]
    assert "rows" not in new


def test_a_series_that_was_added_brings_the_names_again(monitor: PerformanceMonitor) -> None:
    first = ask(monitor)
    monitor.record(loss=0.5)
    monitor.sample()
    shown = ask(monitor, since=first["newest"], columns=first["columns"], open="recorded")
    assert section_of(shown, "recorded")["rows"][0]["name"] == "loss"


def test_another_monitor_with_as_many_columns_brings_its_names(folder: Path) -> None:
    """As after a restart of the program at the same address."""

    def monitor_of(*names: str) -> PerformanceMonitor:
        metrics = [Metric(name, "percent", "cpu", "", label=name) for name in names]
        monitor = PerformanceMonitor([FakeCollector(metrics=metrics)], interval=3600)
        monitor.sample()
        return monitor

    first = ask(monitor_of("a_percent", "b_percent"))
    later = {"since": first["newest"], "columns": first["columns"]}
    same = section_of(ask(monitor_of("a_percent", "b_percent"), **later), "cpu")
    assert "rows" not in same
    other = section_of(ask(monitor_of("a_percent", "c_percent"), **later), "cpu")
    assert [row["name"] for row in other["rows"]] == ["a_percent", "c_percent"]


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


@pytest.mark.parametrize(("asked", "made"), [("328", 328), ("1", 280), ("1e300", 1000), ("inf", 1000)])
def test_a_figure_is_as_wide_as_its_place(monitor: PerformanceMonitor, asked: str, made: int) -> None:
    figure = ElementTree.fromstring(section_of(ask(monitor, width=asked), "cpu")["figures"][0]["svg"])
    assert figure.get("width") == str(made)


def test_names_cannot_leave_the_picture(folder: Path) -> None:
    metrics = [Metric("<b>&/x_percent", "percent", "cpu", "")]
    monitor = PerformanceMonitor([FakeCollector(metrics=metrics)], interval=3600)
    monitor.sample()
    monitor.mark("</text><script>1")
    monitor.sample()
    words = words_in(section_of(ask(monitor), "cpu")["figures"][0]["svg"])
    assert {"</text><script>1", "<b>& x"} <= set(words)


def test_marks_are_drawn(monitor: PerformanceMonitor) -> None:
    monitor.mark("here")
    monitor.sample()
    assert "here" in words_in(section_of(ask(monitor), "cpu")["figures"][0]["svg"])


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
    rows = iter(range(10_000))

    def read() -> dict[str, float]:
        row = next(rows)
        return {each.name: 50 + 50 * math.sin(row * 0.3 + at) for at, each in enumerate(metrics)}

    metrics = [*gpus, *COLUMNS, *cores]
    monitor = PerformanceMonitor([FakeCollector(metrics=metrics, read=read)], interval=3600)
    for _ in range(200):
        monitor.sample()
    shown = section_of(ask(monitor, open="cpu"), "cpu")
    assert "CPUs by number" in words_in(shown["figures"][1]["svg"])[0]
    assert shown["figures"][1]["words"].endswith(" and 56 more")
    first = ask(monitor, width=460)
    monitor.sample()
    refreshed = api.answer(
        monitor,
        Request("GET", VIEW, {"since": first["newest"], "columns": str(first["columns"]), "width": "460"}),
    )
    assert len(refreshed.body) <= 30_000


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
