"""Where a kernel finds the live page of the server that started it."""

from __future__ import annotations

import os

import pytest

from perfmon_widgets.jupyter.page_address import address_of_page, announce

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
