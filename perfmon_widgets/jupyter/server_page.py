"""The live page behind the Jupyter server: its files, and the list of kernels to choose from."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.auth import decorator
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from tornado import web

from perfmon_widgets.web import page
from perfmon_widgets.web.request import Response

KERNELS = "/perfmon/kernels"

_ANCESTORS = re.compile(r"(?:^|;)\s*frame-ancestors\s+([^;]*[^;\s])", re.IGNORECASE)


class PageHandler(JupyterHandler):
    """The page itself. A person who is not logged in is sent to the login page."""

    auth_resource = "kernels"
    _track_activity = False  # an open page must not prevent an idle server from being shut down

    @web.authenticated
    @decorator.authorized("read")
    async def get(self) -> None:
        """Send the page."""
        _send(self, page.document(has_kernels=True))


class FileHandler(APIHandler):
    """A script or style sheet of the page."""

    auth_resource = "kernels"
    _track_activity = False

    @web.authenticated
    @decorator.authorized("read")
    async def get(self, path: str) -> None:
        """Send the file."""
        _send(self, page.file(path))


class KernelsHandler(APIHandler):
    """The kernels that the page can show: by the names of their notebooks, and what they are doing."""

    auth_resource = "kernels"
    _track_activity = False

    def initialize(self, shown: Callable[[], Awaitable[Mapping[str, str]]]) -> None:
        """Keep the function that returns the state of each kernel by its id."""
        self._shown = shown

    @web.authenticated
    @decorator.authorized("read")
    async def get(self) -> None:
        """Send the kernels in the order of their names."""
        states = await self._shown()
        names = await self._names() if await self._may_read_sessions() else {}
        kernels = [
            {"id": each, "name": names.get(each) or f"kernel {each[:8]}", "state": state}
            for each, state in states.items()
        ]
        self.set_header("Cache-Control", "no-store")
        self.finish({"kernels": sorted(kernels, key=lambda kernel: kernel["name"])})

    async def _may_read_sessions(self) -> bool:
        """Whether this person may know the paths of notebooks, which not all may who may read kernels."""
        asked = self.authorizer.is_authorized(self, self.current_user, "read", "sessions")
        return await ensure_async(asked)

    async def _names(self) -> dict[str, str]:
        """Return the path of the notebook of each kernel that has one, by the kernel's id."""
        manager: Any = self.session_manager
        sessions: Any = await ensure_async(manager.list_sessions())
        return {each["kernel"]["id"]: each["path"] for each in sessions if each.get("kernel")}


def _send(handler: Any, response: Response) -> None:
    handler.set_header("Content-Security-Policy", _policy(handler.settings.get("headers", {})))
    handler.set_header("Cache-Control", "no-store")
    handler.set_header("Content-Type", response.content_type)
    handler.set_header("X-Content-Type-Options", "nosniff")
    if isinstance(handler, APIHandler):
        handler.finish(response.body, set_content_type=response.content_type)
    else:
        handler.finish(response.body)


def _policy(headers: Mapping[str, str]) -> str:
    """Return the policy of the page: which pages may show it is what the server was configured with."""
    found = _ANCESTORS.search(headers.get("Content-Security-Policy", ""))
    return page.POLICY_OF_JUPYTER if found is None else page.policy(found[1])
