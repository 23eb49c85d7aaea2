"""The HTTP API behind the Jupyter server: its login and rules, for the monitors that run in its kernels.

No port is opened in a kernel: it is asked over its control channel, which it serves while a cell runs.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from typing import Any
from urllib.parse import parse_qsl

import prometheus_client
from jupyter_core.utils import ensure_async
from jupyter_server.auth import decorator
from jupyter_server.base.handlers import APIHandler
from tornado import web

from perfmon_widgets.jupyter.control_channel import ControlChannel
from perfmon_widgets.web import api, exposition

# Seconds until a kernel is said not to answer. A call into C that keeps the interpreter may take a while.
_TIMEOUT = 5.0

_PROBE = api.Request("GET", "/api/performance/logging")  # the cheapest question

# A Jupyter server of before 2.13 does not ask whether a handler is meant to do without a login.
_without_login = getattr(decorator, "allow_unauthenticated", lambda method: method)


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by the Jupyter server: serve the API under its base URL."""
    # Asking a kernel for its numbers is no use of it: it must not look busy, nor be kept from being culled.
    manager = server.kernel_manager
    manager.untracked_message_types = [*manager.untracked_message_types, "perfmon_request"]
    base = re.escape(server.web_app.settings["base_url"].rstrip("/"))
    kernels = {"kernels": _Kernels(manager)}
    server.web_app.add_handlers(
        ".*$",
        [
            (rf"{base}(/api/performance(?:/.*)?)", _Handler, kernels),
            (rf"{base}(/metrics)", _MetricsHandler, kernels),
        ],
    )


class _Handler(APIHandler):
    """One request: passed on to the kernel that is meant, whose answer is handed back as it is."""

    # Who may see and use the kernels may see and switch their monitors.
    auth_resource = "kernels"
    # A dashboard that polls does not keep an idle server from being shut down.
    _track_activity = False

    def initialize(self, kernels: _Kernels) -> None:
        self._kernels = kernels

    @web.authenticated
    @decorator.authorized("read")
    async def get(self, path: str) -> None:
        await self._answer(path)

    # Not one method for all: `authorized` keeps the action of its first call for every later one.
    @web.authenticated
    @decorator.authorized("write")
    async def post(self, path: str) -> None:
        await self._answer(path)

    head = put = patch = delete = post

    async def _answer(self, path: str) -> None:
        query = dict(parse_qsl(self.request.query, keep_blank_values=True))
        content_type = self.request.headers.get("Content-Type", "")
        request = api.Request(self.request.method or "", path, query, self.request.body, content_type)
        try:
            api.check(request)
            response = await self._kernels.answer(request)
        except api.Refusal as refusal:
            response = refusal.response
        self._respond(path, response)

    def _respond(self, path: str, response: api.Response) -> None:
        self.set_status(response.status)
        if response.status == 405:
            self.set_header("Allow", ", ".join(api.methods(path)))
        self.set_header("Cache-Control", "no-store")
        self.finish(response.body, set_content_type=response.content_type)


class _MetricsHandler(_Handler):
    """The Jupyter server's own /metrics, continued with those of its kernels.

    The server's handler stood at this URL before, and whoever scrapes it must go on to find what it told. For
    a scraper that does not know the kernels, all that have a monitor are told, labelled with ``kernel_id``.
    """

    @_without_login
    async def get(self, path: str) -> None:
        if not self.logged_in and self.settings["authenticate_prometheus"]:
            raise web.HTTPError(403)
        if not await self._may_read():
            # The owner wants the server's own numbers to be public. That does not include the kernels'.
            self._tell(b"")
        elif "kernel_id" in self.request.query_arguments:
            await self._answer(path)
        else:
            answers = await self._kernels.all_answers(api.Request("GET", path))
            texts = {kernel_id: each.body for kernel_id, each in answers.items() if each.status == 200}
            self._tell(exposition.joined(texts))

    async def _may_read(self) -> bool:
        if not self.logged_in:
            return False
        asked = self.authorizer.is_authorized(self, self.current_user, "read", self.auth_resource)
        return await ensure_async(asked)

    def _tell(self, of_kernels: bytes) -> None:
        body = prometheus_client.generate_latest(prometheus_client.REGISTRY) + of_kernels
        self._respond("/metrics", api.Response(200, prometheus_client.CONTENT_TYPE_LATEST, body))


class _Kernels:
    """The kernels of a Jupyter server, as far as they can be asked for their monitors."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._channels: weakref.WeakKeyDictionary[Any, ControlChannel] = weakref.WeakKeyDictionary()
        # When a kernel that did not know the question was last active.
        self._strangers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    async def answer(self, request: api.Request) -> api.Response:
        """What the kernel that is meant answers; raises api.Refusal if there is none, or if it does not."""
        chosen = request.query.get("kernel_id")
        if chosen is not None:
            if chosen not in self._manager.list_kernel_ids():
                raise api.Refusal(404, "kernel_id: this server has no such kernel")
            return await self._ask(self._manager.get_kernel(chosen), request)
        ids = self._manager.list_kernel_ids()
        if len(ids) == 1:
            return await self._ask(self._manager.get_kernel(ids[0]), request)
        answers = await self.all_answers(_PROBE)
        monitored = [kernel_id for kernel_id, each in answers.items() if each.status == 200]
        if len(monitored) > 1:
            raise api.Refusal(
                409,
                f"kernel_id: monitors run in {len(monitored)} kernels; choose one: {', '.join(monitored)}",
                kernels=monitored,
            )
        if monitored:
            return await self._ask(self._manager.get_kernel(monitored[0]), request)
        silent = [kernel_id for kernel_id, each in answers.items() if each.status == 504]
        if silent:
            raise api.Refusal(504, f"kernel does not answer: {', '.join(silent)}", kernels=silent)
        raise api.no_monitor()

    async def all_answers(self, request: api.Request) -> dict[str, api.Response]:
        """What each kernel answers, by its id; a refusal in place of those that do not."""

        async def ask(kernel_id: str) -> api.Response:
            try:
                return await self._ask(self._manager.get_kernel(kernel_id), request)
            except api.Refusal as refusal:
                return refusal.response
            except KeyError:
                return api.no_monitor().response  # shut down meanwhile

        ids = self._manager.list_kernel_ids()
        return dict(zip(ids, await asyncio.gather(*map(ask, ids)), strict=True))

    async def _ask(self, kernel: Any, request: api.Request) -> api.Response:
        """What one kernel answers; raises api.Refusal if it cannot."""
        await _check_alive(kernel)
        # Not asked again until something has been run in it: each question that a kernel does not know is an
        # error in its log. One that is running something may be about to start a monitor.
        active = getattr(kernel, "last_activity", None)
        if self._strangers.get(kernel, self) == active and getattr(kernel, "execution_state", "") == "idle":
            raise api.no_monitor()
        spec = kernel.kernel_spec
        if spec is not None and spec.language != "python":
            raise api.no_monitor()
        if kernel not in self._channels:
            self._channels[kernel] = ControlChannel(kernel)
        try:
            response = await self._channels[kernel].ask(request, _TIMEOUT)
        except ConnectionError as error:
            await _check_alive(kernel)
            raise api.Refusal(504, f"kernel does not answer: {error}") from None
        if response is None:
            self._strangers[kernel] = active
            raise api.no_monitor()
        return response


async def _check_alive(kernel: Any) -> None:
    if not await ensure_async(kernel.is_alive()):
        raise api.Refusal(410, "kernel is dead; restart it, and start a monitor in it")
