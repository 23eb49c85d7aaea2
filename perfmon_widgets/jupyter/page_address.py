"""Where the live page is, as a kernel knows it from the Jupyter server that started it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath

from perfmon_widgets.web.page import PAGE

# A kernel inherits this variable from the server that started it.
_VARIABLE = "PERFMON_WIDGETS_PAGE"
# A server of JupyterHub is reached by way of the Hub's proxy, not by the address that it knows.
_BEHIND_HUB = "JUPYTERHUB_API_URL"
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


def whole_address_of_page(connection_file: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the same with the name of the server, as the server itself knows it; None if it is not known.

    For a program that shows the notebook on pages that are not the server's, such as VS Code. It is what the
    server has written into its file beside the kernel's.
    """
    address = address_of_page(connection_file, environment)
    if address is None or _BEHIND_HUB in environment:
        return None
    server = environment["JPY_PARENT_PID"]
    try:
        known = json.loads(Path(connection_file).with_name(f"jpserver-{server}.json").read_text())
        url, base = str(known["url"]), str(known["base_url"])
    except (OSError, ValueError, TypeError, KeyError):
        return None  # another kind of server, or another folder
    return f"{url.removesuffix(base)}{address}" if url.startswith(("http://", "https://")) else None
