"""The description in OpenAPI: true of every route, and held against the live server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
import schemathesis
from fakes.collectors import FakeCollector
from hypothesis import HealthCheck, settings

import perfmon_widgets
from perfmon_widgets import PerformanceMonitor, PerformanceServer, serve
from perfmon_widgets.web import api, page

WEB = Path(perfmon_widgets.__file__).parent / "web"
DESCRIPTION: dict[str, Any] = json.loads((WEB / "openapi.json").read_text())
TOKEN = "a-token-for-tests"

schema = schemathesis.openapi.from_dict(DESCRIPTION)


@pytest.fixture(scope="module")
def monitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PerformanceMonitor]:
    """One whose log may be switched on as often as anybody likes, in a directory of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("openapi"))
        monitor = PerformanceMonitor(
            [FakeCollector("cpu_percent", read=lambda: {"cpu_percent": float("nan")})], interval=3600
        )
        monitor.sample()
        yield monitor
        monitor.stop()


@pytest.fixture(scope="module")
def server(monitor: PerformanceMonitor) -> Iterator[PerformanceServer]:
    with serve(monitor, token=TOKEN) as server:
        yield server


@pytest.fixture(autouse=True)
def log_is_off(monitor: PerformanceMonitor) -> Iterator[None]:
    yield
    monitor.log.stop()


def test_it_is_valid() -> None:
    openapi_spec_validator.validate(DESCRIPTION)
    assert DESCRIPTION["openapi"].startswith("3.1")


def test_it_describes_every_route_and_no_other() -> None:
    described = {
        path: {method.upper() for method in methods} for path, methods in DESCRIPTION["paths"].items()
    }
    assert described == {path: set(methods) for path, methods in api.ROUTES.items()}


def test_the_readme_beside_it_has_every_route_and_every_status() -> None:
    readme = (WEB / "README.md").read_text()
    assert "(openapi.json)" in readme
    commands = re.findall(r"^curl .*$", readme, re.MULTILINE)
    assert f"| `GET {page.PAGE}` |" in readme
    for path, methods in api.ROUTES.items():
        for method in methods:
            if path.startswith(page.PAGE):  # for browsers, not for people who write scripts
                continue
            assert f"| `{method} {path}` |" in readme
            lines = [line for line in commands if re.search(rf"{path}([?'\"\s]|$)", line)]
            assert [line for line in lines if ("--json " in line) == (method == "POST")], (method, path)
    statuses = {
        status
        for methods in DESCRIPTION["paths"].values()
        for method in methods.values()
        for status in method["responses"]
    }
    table = readme.partition("## Errors")[2].partition("\n## ")[0]
    assert set(re.findall(r"\b[45]\d\d\b", table)) == statuses - {"200"} | {"405"}


@schema.parametrize()
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_the_server_keeps_to_it(case: Any, server: PerformanceServer) -> None:
    case.call_and_validate(base_url=server.url, headers={"Authorization": f"token {TOKEN}"})
