"""Where the live page is, as a kernel knows it from the Jupyter server that started it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePath

from perfmon_widgets.web.page import PAGE

# A kernel inherits this variable from the server that started it.
_VARIABLE = "PERFMON_WIDGETS_PAGE"
# The file of a server's kernel is named after the id by which the server knows the kernel.
_CONNECTION_FILE = re.compile(r"kernel-(?P<id>[\w-]+)\.json", re.ASCII)


def announce(base_url: str) -> None:
    """Let the kernels that this server will start know that it has the page, and where."""
    os.environ[_VARIABLE] = f"{os.getpid()} {base_url.rstrip('/')}{PAGE}"


def address_of_page(connection_file: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the address of a kernel's page on the server that started it; None if that has no page.

    It begins with a slash: behind a proxy only the browser knows the name of the server. A variable that came
    by way of a terminal of a Jupyter server does not count, because that server does not know this kernel.
    """
    server, _, path = environment.get(_VARIABLE, "").partition(" ")
    name = _CONNECTION_FILE.fullmatch(PurePath(connection_file).name)
    if name is None or not server or server != environment.get("JPY_PARENT_PID"):
        return None
    return f"{path}?kernel_id={name['id']}"
