"""The HTTP API of the Jupyter server, behind its login, for the monitors that run in its kernels.

No port is opened in a kernel: the server sends each request over the kernel's control channel, which the
kernel serves also while a cell runs.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from typing import Any

import prometheus_client
from jupyter_core.utils import ensure_async
from jupyter_server.auth import decorator
from jupyter_server.base.handlers import APIHandler
from tornado import iostream, web

from perfmon_widgets.core.black_box import box_beside, read_death
from perfmon_widgets.jupyter.control_channel import ControlChannel, Send
from perfmon_widgets.jupyter.page_address import announce
from perfmon_widgets.jupyter.server_page import KERNELS, FileHandler, KernelsHandler, PageHandler
from perfmon_widgets.views.death import Death
from perfmon_widgets.web import api, death, exposition, page
from perfmon_widgets.web.request import Refusal, Request, Response, read_query

# The timeout for a kernel's answer, in seconds. A call into C code may hold the GIL of the kernel for long.
_TIMEOUT = 5.0

_PROBE = Request("GET", "/api/performance/logging")  # the request that costs a kernel least

# Before version 2.13 the Jupyter server has no decorator for handlers that work without a login.
_without_login = getattr(decorator, "allow_unauthenticated", lambda method: method)


def _load_jupyter_server_extension(server: Any) -> None:
    """Add the API under the base URL; the Jupyter server calls this."""
    # These requests do not count as activity of a kernel: that would prevent it from being culled.
    manager = server.kernel_manager
    manager.untracked_message_types = [*manager.untracked_message_types, "perfmon_request"]
    if getattr(manager, "cull_connected", False) and manager.cull_idle_timeout > 0:
        # An open page then does not keep its idle kernel from being culled. link.js reads this number: where
        # nobody has touched a page for that long, it reports no views of the panel.
        config = server.web_app.settings.setdefault("page_config_data", {})
        config["perfmonUnusedAfter"] = manager.cull_idle_timeout
    announce(server.web_app.settings["base_url"])
    base = re.escape(server.web_app.settings["base_url"].rstrip("/"))
    kernels = {"kernels": _Kernels(manager)}
    server.web_app.add_handlers(
        ".*$",
        [
            (rf"{base}(/api/performance(?:/.*)?)", _Handler, kernels),
            (rf"{base}(/metrics)", _MetricsHandler, kernels),
            (rf"{base}({page.VIEW})", _Handler, kernels),
            (rf"{base}{page.PAGE}", PageHandler),
            (rf"{base}{KERNELS}", KernelsHandler, {"shown": kernels["kernels"].states}),
            *((rf"{base}({re.escape(path)})", FileHandler) for path in page.FILES if path != page.PAGE),
        ],
    )


class _Handler(APIHandler):
    """Pass one request on to its kernel, and the response back to the client."""

    # The permission for the kernels is the permission for their monitors.
    auth_resource = "kernels"
    # A dashboard that polls must not prevent an idle server from being shut down.
    _track_activity = False

    def initialize(self, kernels: _Kernels) -> None:
        self._kernels = kernels

    @web.authenticated
    @decorator.authorized("read")
    async def get(self, path: str) -> None:
        await self._answer(path)

    # A method of its own: `authorized` keeps the action of its first call for every later one.
    @web.authenticated
    @decorator.authorized("write")
    async def post(self, path: str) -> None:
        await self._answer(path)

    head = put = patch = delete = post

    async def _answer(self, path: str) -> None:
        query = read_query(self.request.query)
        content_type = self.request.headers.get("Content-Type", "")
        request = Request(self.request.method or "", path, query, self.request.body, content_type)
        parts = 0

        async def send(part: Response) -> None:
            nonlocal parts
            if not parts:
                self._head(path, part)
                self.set_header("Content-Type", part.content_type)
            parts += 1
            self.write(part.body)
            await self.flush()  # waits for a client that reads slowly

        try:
            api.check(request)
            response = await self._kernels.answer(request, send)
        except Refusal as refusal:
            response = refusal.response
        except iostream.StreamClosedError:  # the client has gone
            return
        if parts and response.status != 200:
            # The client must not take what it has got for the whole.
            connection: Any = self.request.connection
            connection.close()
            return
        accepted = self.request.headers.get("Accept-Encoding", "")
        response, more = page.compressed(path, accepted, response)
        if not parts:
            self._head(path, response)
        for name, value in more.items():
            self.set_header(name, value)
        self.finish(response.body, set_content_type=response.content_type)

    def _head(self, path: str, response: Response) -> None:
        self.set_status(response.status)
        for name, value in api.headers(path, response).items():
            self.set_header(name, value)
        if path == page.VIEW:
            # The page sends it back with a POST; a page of another site cannot read it.
            self.set_header("X-XSRFToken", self.xsrf_token)


class _MetricsHandler(_Handler):
    """The Jupyter server's own /metrics, followed by those of its kernels.

    This handler replaces the server's own at the same URL, so it must give the same numbers. A scraper need
    not know the kernels: it gets all that have a monitor, labelled with ``kernel_id``.
    """

    @_without_login
    async def get(self, path: str) -> None:
        if not self.logged_in and self.settings["authenticate_prometheus"]:
            raise web.HTTPError(403)
        if not await self._may_read():
            # The server's own numbers are public here, but those of the kernels are not.
            self._respond_with(b"")
        elif "kernel_id" in self.request.query_arguments:
            await self._answer(path)
        else:
            answers = await self._kernels.all_answers(Request("GET", path))
            texts = {kernel_id: each.body for kernel_id, each in answers.items() if each.status == 200}
            self._respond_with(exposition.joined(texts))

    async def _may_read(self) -> bool:
        if not self.logged_in:
            return False
        asked = self.authorizer.is_authorized(self, self.current_user, "read", self.auth_resource)
        return await ensure_async(asked)

    def _respond_with(self, of_kernels: bytes) -> None:
        body = prometheus_client.generate_latest(prometheus_client.REGISTRY) + of_kernels
        response = Response(200, prometheus_client.CONTENT_TYPE_LATEST, body)
        self._head("/metrics", response)
        self.finish(response.body, set_content_type=response.content_type)


class _Kernels:
    """Sends requests to the kernels of a Jupyter server."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._channels: weakref.WeakKeyDictionary[Any, ControlChannel] = weakref.WeakKeyDictionary()
        # Kernels that do not know these requests, and when each was last active before it showed that.
        self._without_package: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    async def answer(self, request: Request, send: Send | None = None) -> Response:
        """Return the response of the kernel that the request is for; ``send`` gets the parts of a long body.

        Raises Refusal if no kernel or several come into question, and if the kernel does not answer.
        """
        chosen = request.query.get("kernel_id")
        if chosen is not None:
            if chosen not in self._manager.list_kernel_ids():
                raise Refusal(404, "kernel_id: this server has no such kernel", state="dead")
            return await self._ask_also_dead(self._manager.get_kernel(chosen), request, send)
        ids = self._manager.list_kernel_ids()
        if len(ids) == 1:
            return await self._ask_also_dead(self._manager.get_kernel(ids[0]), request, send)
        answers = await self.all_answers(_PROBE)
        monitored = [kernel_id for kernel_id, each in answers.items() if each.status == 200]
        if len(monitored) > 1:
            raise Refusal(
                409,
                f"kernel_id: monitors run in {len(monitored)} kernels; choose one: {', '.join(monitored)}",
                kernels=monitored,
            )
        if monitored:
            return await self._ask(self._manager.get_kernel(monitored[0]), request, send)
        silent = [kernel_id for kernel_id, each in answers.items() if each.status == 504]
        if silent:
            raise Refusal(504, f"kernel does not answer: {', '.join(silent)}", kernels=silent)
        raise api.no_monitor()

    async def states(self) -> dict[str, str]:
        """Return what each kernel does that has a monitor, or had one when it died, by its id."""
        answers = await self.all_answers(_PROBE)
        found = {}
        for kernel_id, each in answers.items():
            kernel = self._manager.get_kernel(kernel_id) if kernel_id in self._manager else None
            if kernel is None:
                continue
            if each.status in (200, 504):
                found[kernel_id] = _state(kernel)
            elif each.status in (404, 410) and _death_of(kernel) is not None:
                found[kernel_id] = "dead"
        return found

    async def all_answers(self, request: Request) -> dict[str, Response]:
        """Return the response of each kernel by its id; for one that does not answer, a refusal."""

        async def ask(kernel_id: str) -> Response:
            try:
                return await self._ask(self._manager.get_kernel(kernel_id), request)
            except Refusal as refusal:
                return refusal.response
            except KeyError:
                return api.no_monitor().response  # it has been shut down meanwhile

        ids = self._manager.list_kernel_ids()
        return dict(zip(ids, await asyncio.gather(*map(ask, ids)), strict=True))

    async def _ask_also_dead(self, kernel: Any, request: Request, send: Send | None) -> Response:
        """Return the response of one kernel, or what the black box of its dead process says.

        Raises Refusal if there is neither.
        """
        try:
            return await self._ask(kernel, request, send)
        except Refusal as refusal:
            # 410: it is dead. 404: it was started again, and no monitor has run in it since.
            if refusal.status not in (404, 410) or not death.answers(request):
                raise
            found = _death_of(kernel)
            if found is None:
                raise
            return await asyncio.to_thread(death.answer, found, request)

    async def _ask(self, kernel: Any, request: Request, send: Send | None = None) -> Response:
        """Return the response of one kernel; raises Refusal if it does not answer."""
        await _check_alive(kernel)
        # A kernel without this package logs each request as an error. So once that is known, it gets none
        # until another cell has run in it, or while one runs: that cell may have started a monitor.
        active = getattr(kernel, "last_activity", None)
        if (
            self._without_package.get(kernel, self) == active
            and getattr(kernel, "execution_state", "") == "idle"
        ):
            raise api.no_monitor()
        spec = kernel.kernel_spec
        if spec is not None and spec.language != "python":
            raise api.no_monitor()
        if kernel not in self._channels:
            self._channels[kernel] = ControlChannel(kernel)
        try:
            response = await self._channels[kernel].ask(request, _TIMEOUT, send)
        except ConnectionError as error:
            await _check_alive(kernel)
            raise Refusal(504, f"kernel does not answer: {error}", state=_state(kernel)) from None
        if response is None:
            self._without_package[kernel] = active
            raise api.no_monitor()
        return response


def _state(kernel: Any) -> str:
    """Return what a kernel does, as the Jupyter server knows it: ``idle``, ``busy`` or ``starting``."""
    return getattr(kernel, "execution_state", None) or "starting"


def _death_of(kernel: Any) -> Death | None:
    """Return what the black box of a kernel's dead process says; None if there is none."""
    return read_death(box_beside(kernel.connection_file), _exit_status(kernel))


def _exit_status(kernel: Any) -> int | None:
    """Return the exit status of a kernel's process, negative for a signal; None if it is not known."""
    process = getattr(getattr(kernel, "provisioner", None), "process", None)
    status = process.poll() if process is not None else None
    return status if isinstance(status, int) else None


async def _check_alive(kernel: Any) -> None:
    if not await ensure_async(kernel.is_alive()):
        raise Refusal(410, "kernel is dead; restart it, and start a monitor in it", state="dead")
