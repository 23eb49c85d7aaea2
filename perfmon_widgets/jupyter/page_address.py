"""Where the live page is, as a kernel knows it from the Jupyter server that started it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from perfmon_widgets.web.page import PAGE

# A kernel inherits this variable from the server that started it.
_VARIABLE = "PERFMON_WIDGETS_PAGE"


def announce(base_url: str) -> None:
    """Let the kernels that this server will start know that it has the page, and where."""
    os.environ[_VARIABLE] = f"{os.getpid()} {base_url.rstrip('/')}{PAGE}"


def address_of_page(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the path of the page on the server that started this kernel; None if that has no page.

    A variable that came by way of a terminal of a Jupyter server does not count: that server does not know
    this kernel.
    """
    server, _, path = environment.get(_VARIABLE, "").partition(" ")
    return path if server and server == environment.get("JPY_PARENT_PID") else None
