"""What is answered over HTTP for a kernel that has died."""

from __future__ import annotations

import json
import math

import pytest

from perfmon_widgets.views.death import Cell, Death
from perfmon_widgets.web import death
from perfmon_widgets.web.request import Refusal, Request

HISTORY = "/api/performance/history"
COLUMNS = [("ram_percent", "percent", "RAM"), ("odd, name", "", "odd")]
SERIES = {"ram_percent": [50.0, 97.5], "odd, name": [math.nan, 1.0]}
DEAD = Death(1.5, Cell(3, "a = 1", 0.5), "certain", "RAM 97%; killed", COLUMNS, [1.0, 1.5], SERIES)
TIMES = ["1970-01-01T00:00:01.000000Z", "1970-01-01T00:00:01.500000Z"]


def test_the_history_has_the_form_of_a_living_kernels():
    response = death.answer(DEAD, Request("GET", HISTORY))
    found = json.loads(response.body)
    assert response.status == 200
    assert found.pop("death") == {
        "time": TIMES[1],
        "cell": {"number": 3, "source": "a = 1"},
        "verdict": "certain",
        "evidence": "RAM 97%; killed",
        "message": str(DEAD),
    }
    assert found == {
        "columns": ["ram_percent", "odd, name"],
        "time": TIMES,
        "values": {"ram_percent": [50.0, 97.5], "odd, name": [None, 1.0]},
    }


def test_only_what_is_new_and_as_csv():
    later = json.loads(death.answer(DEAD, Request("GET", HISTORY, {"since": TIMES[0]})).body)
    assert (later["time"], later["values"]["ram_percent"]) == (TIMES[1:], [97.5])
    table = death.answer(DEAD, Request("GET", HISTORY, {"format": "csv"}))
    assert table.content_type == "text/csv; charset=utf-8"
    assert table.body.decode() == f'time,ram_percent,"odd, name"\n{TIMES[0]},50.0,\n{TIMES[1]},97.5,1.0\n'


@pytest.mark.parametrize("query", [{"format": "xml"}, {"since": "noon"}])
def test_a_wrong_query_is_refused(query):
    with pytest.raises(Refusal):
        death.answer(DEAD, Request("GET", HISTORY, query))


def test_the_death_is_a_finding():
    found = json.loads(death.answer(DEAD, Request("GET", "/api/performance/findings")).body)
    (finding,) = found["findings"]
    assert (finding["severity"], finding["evidence"]) == ("critical", DEAD.evidence)
    assert finding["what"] == "the kernel died in cell [3] a = 1"
    assert "%perfmon guard" in finding["advice"]
    unlikely = Death(1.5, None, "unlikely", "a signal", COLUMNS, [1.0, 1.5], SERIES)
    found = json.loads(death.answer(unlikely, Request("GET", "/api/performance/findings")).body)
    assert found["findings"][0]["what"] == "the kernel died"
    assert "guard" not in found["findings"][0]["advice"]
    assert found["death"]["cell"] is None


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", HISTORY), ("GET", "/api/performance/current"), ("GET", "/metrics"), ("GET", "/")],
)
def test_other_requests_have_no_answer(method, path):
    assert not death.answers(Request(method, path))
    assert death.answers(Request("GET", HISTORY))
