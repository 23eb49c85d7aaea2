"""The live page: its HTML, scripts and style sheet, and who may run what in it.

The page is static. Its script asks for what is to be shown (``view.py``). So the page of a Jupyter server is
there at once, however busy the kernel is.
"""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path

from perfmon_widgets.web.request import Response

PAGE = "/perfmon"
VIEW = "/perfmon/view"

# From how many bytes on a response is compressed. A refresh of a few kilobytes, once in a second at most, is
# sent as it is: to compress it takes 0.1 ms of the kernel.
_LONG = 10_000
_GZIP = re.compile(r"(^|,)\s*gzip\s*(,|$)", re.IGNORECASE)
_WEB = Path(__file__).parent
# The gauges, and the look of the tables, are those of the panel: files, which import nothing.
_PANEL = _WEB.parent / "panel"

FILES = {
    PAGE: ("text/html; charset=utf-8", [_WEB / "page.html"]),
    **{
        f"/perfmon/{name}.js": ("text/javascript; charset=utf-8", [_WEB / f"{name}.js"])
        for name in (
            "page",
            "page_figures",
            "page_gauges",
            "page_kernels",
            "page_parts",
            "page_sections",
            "page_table",
        )
    },
    "/perfmon/gauge.js": ("text/javascript; charset=utf-8", [_PANEL / "shared.js", _PANEL / "gauge.js"]),
    "/perfmon/page.css": (
        "text/css; charset=utf-8",
        [_PANEL / "gauge.css", _PANEL / "table.css", _WEB / "page.css"],
    ),
}
"""For each path the type, and the files that are put together."""

# No attribute and no element of the page can hold a script or a style, whatever the names in it are.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors "
)


def policy(ancestors: str) -> str:
    """Return the Content-Security-Policy of the page where these pages, in the words of CSP, may show it."""
    return f"{_POLICY}{ancestors}"


POLICY = policy("'none'")
"""The Content-Security-Policy of serve()."""
POLICY_OF_JUPYTER = policy("'self'")
"""That of the Jupyter server, whose own pages may show this one in a frame."""


def document(*, has_kernels: bool) -> Response:
    """Return the page; with ``has_kernels`` that of a server with kernels to choose from."""
    shown = file(PAGE)
    return (
        shown._replace(content=shown.body.replace(b"<html", b"<html data-kernels")) if has_kernels else shown
    )


def file(path: str) -> Response:
    """Return a file of the page; raises KeyError for a path that is not in ``FILES``."""
    content_type, _ = FILES[path]
    return Response(200, content_type, _read(path))


@cache
def _read(path: str) -> bytes:
    _, files = FILES[path]
    return b"\n".join(each.read_bytes() for each in files)


def compressed(path: str, accepted: str, response: Response) -> tuple[Response, dict[str, str]]:
    """Return a long response to the page a quarter as long, with the headers that say so; another as it is.

    ``accepted``: the header Accept-Encoding of the request.
    """
    if path != VIEW or response.status != 200 or len(response.body) < _LONG or not _GZIP.search(accepted):
        return response, {}
    small = gzip.compress(response.body, compresslevel=1, mtime=0)
    return response._replace(content=small), {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}


def entrance(address: str) -> Response:
    """Return a page that leads to ``address``: it takes the token out of the address bar.

    Not a redirect: a browser that follows one from the link of another page, such as a notebook, would not
    send a cookie that is SameSite=Strict.
    """
    content = (
        '<!doctype html><html lang="en"><title>Performance</title>'
        f'<meta http-equiv="refresh" content="0; url={address}"><p><a href="{address}">Live page</a></html>'
    )
    return Response(200, "text/html; charset=utf-8", content.encode())
