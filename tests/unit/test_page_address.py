"""Where a kernel finds the live page of the server that started it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from perfmon_widgets.jupyter.page_address import address_of_page, announce, whole_address_of_page

FILE = "/home/me/.local/share/jupyter/runtime/kernel-0a-1b.json"


@pytest.mark.parametrize(("base", "path"), [("/", "/perfmon"), ("/user/me/", "/user/me/perfmon")])
def test_it_is_below_the_base_url_of_the_server(
    base: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERFMON_WIDGETS_PAGE", raising=False)
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    assert address_of_page(FILE) is None
    announce(base)
    assert address_of_page(FILE) == f"{path}?kernel_id=0a-1b"
    monkeypatch.delenv("PERFMON_WIDGETS_PAGE")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"JPY_PARENT_PID": "7"},
        {"PERFMON_WIDGETS_PAGE": "7 /perfmon"},  # in a terminal of the server
        {"PERFMON_WIDGETS_PAGE": "7 /perfmon", "JPY_PARENT_PID": "8"},  # a kernel of another program
        {"PERFMON_WIDGETS_PAGE": "", "JPY_PARENT_PID": ""},
    ],
)
def test_other_kernels_have_none(environment: dict[str, str]) -> None:
    assert address_of_page(FILE, environment) is None


@pytest.mark.parametrize("file", ["", "/tmp/kernel.json", "/tmp/kernel-<b>.json", "/tmp/kernel-1.json.old"])
def test_a_kernel_that_the_server_does_not_know_by_its_file_has_none(file: str) -> None:
    environment = {"PERFMON_WIDGETS_PAGE": "7 /perfmon", "JPY_PARENT_PID": "7"}
    assert address_of_page(file, environment) is None
    assert address_of_page(FILE, environment)


OF_SERVER_7 = {"PERFMON_WIDGETS_PAGE": "7 /me/perfmon", "JPY_PARENT_PID": "7"}


def whole(folder: Path, environment: dict[str, str] = OF_SERVER_7, **written: object) -> str | None:
    """The address of a kernel next to whose file a server has written this."""
    (folder / "jpserver-7.json").write_text(json.dumps({"token": "secret"} | written))
    return whole_address_of_page(str(folder / "kernel-0a-1b.json"), environment)


def test_with_the_name_of_the_server_it_is_what_the_server_says(tmp_path: Path) -> None:
    found = whole(tmp_path, url="http://localhost:8888/me/", base_url="/me/")
    assert found == "http://localhost:8888/me/perfmon?kernel_id=0a-1b"


def test_without_it_where_the_server_does_not_say_or_is_not_reached_so(tmp_path: Path) -> None:
    known = {"url": "http://localhost:8888/me/", "base_url": "/me/"}
    assert whole(tmp_path, OF_SERVER_7 | {"JUPYTERHUB_API_URL": "http://hub/api"}, **known) is None
    assert whole(tmp_path, {"JPY_PARENT_PID": "7"}, **known) is None
    assert whole(tmp_path, url="http+unix://%2Ftmp%2Fsocket/me/", base_url="/me/") is None
    assert whole(tmp_path, url="http://localhost:8888/me/") is None
    (tmp_path / "jpserver-7.json").write_text("[1]")
    assert whole_address_of_page(str(tmp_path / "kernel-0a-1b.json"), OF_SERVER_7) is None
    (tmp_path / "jpserver-7.json").unlink()
    assert whole_address_of_page(str(tmp_path / "kernel-0a-1b.json"), OF_SERVER_7) is None
