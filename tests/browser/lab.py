"""A real JupyterLab server, and one notebook opened in it by a real browser."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nbformat
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page

REPOSITORY = Path(__file__).parents[2]
OUTPUT = Path(__file__).parent / "output"

Theme = Literal["light", "dark"]

# The open notebook, or nothing while JupyterLab is still building its page.
PANEL = """
const panel = () => {
  const widget = window.jupyterapp?.shell?.currentWidget;
  return widget?.content?.widgets && widget.sessionContext ? widget : null;
};
"""

# A request that is still running, or a cell that still shows [*]. The kernel's own status is no
# answer: JupyterLab calls a kernel idle as soon as it has handled a click beside the running cell.
IS_BUSY = f"""() => {{
  {PANEL}
  const waiting = cell => cell.node.querySelector('.jp-InputPrompt')?.textContent.includes('*');
  return (window.harnessRuns ?? 0) > 0 || (panel()?.content.widgets.some(waiting) ?? false);
}}"""

KERNEL_STATUS = f"() => {{ {PANEL} return panel()?.sessionContext.session?.kernel?.status ?? 'none'; }}"

# Not awaited, because the test looks at the page while the cells run.
RUN = f"""([command, index]) => {{
  {PANEL}
  const content = panel().content;
  if (index !== null) {{
    content.deselectAll();
    content.activeCellIndex = index;
  }}
  window.harnessRuns = (window.harnessRuns ?? 0) + 1;
  const done = () => {{ window.harnessRuns -= 1; }};
  window.jupyterapp.commands.execute(command).then(done, done);
}}"""


class LabServer:
    """A running `jupyter lab`: its address, the folder it serves and its log."""

    def __init__(self, port: int, root: Path, settings: Path, log: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.root = root
        self.log = log
        self._settings = settings

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """What the server answers, decoded from JSON, or None where it answers nothing."""
        # http.client rather than urllib, which would ask a proxy of the environment.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        # Without a token the server wants to see that the cookie and the header agree, whatever they say.
        headers = {"Cookie": "_xsrf=tests", "X-XSRFToken": "tests", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path} was answered {response.status}: {text[:500]}")
        return json.loads(text) if text else None

    def set_theme(self, theme: Theme) -> None:
        """Choose the theme of the pages opened from now on."""
        self._write_setting("apputils-extension/themes", {"theme": f"JupyterLab {theme.capitalize()}"})

    def write_settings(self) -> None:
        """Switch off what would open a dialog over the page, or change the notebook file by itself."""
        self._write_setting(
            "apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False}
        )
        self._write_setting("docmanager-extension/plugin", {"autosave": False})

    def reset(self) -> None:
        """End every kernel and empty the folder the server shows."""
        for session in self.request("GET", "/api/sessions"):
            self.request("DELETE", f"/api/sessions/{session['id']}")
        for kernel in self.request("GET", "/api/kernels"):
            self.request("DELETE", f"/api/kernels/{kernel['id']}")
        for path in self.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _write_setting(self, plugin: str, values: dict[str, Any]) -> None:
        path = self._settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


@contextmanager
def start_lab(folder: Path, *, extensions: tuple[str, ...] = ()) -> Iterator[LabServer]:
    """A LabServer that keeps all it writes in `folder`, with those server extensions beside the usual ones.

    Raises RuntimeError, with the log, when the server does not come up within a minute.
    """
    names = ["home", "config", "data", "runtime", "settings", "workspaces", "ipython", "root"]
    folders = {name: folder / name for name in names}
    for path in folders.values():
        path.mkdir(parents=True)
    server_config = folders["config"] / "jupyter_server_config.json"
    server_config.write_text(
        json.dumps({"ServerApp": {"jpserver_extensions": dict.fromkeys(extensions, True)}})
    )

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = LabServer(port, folders["root"], folders["settings"], folder / "lab.log")
    server.write_settings()
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            _command(server), env=_environment(folders), cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(server, process)
        yield server
    finally:
        # On SIGTERM the server ends its kernels itself.
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _command(server: LabServer) -> list[str]:
    return [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ip=127.0.0.1", f"--port={server.port}", "--ServerApp.port_retries=0"),
        *("--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={server.root}"),
        *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"),
        # A kernel that is still busy when its test ends is killed after 1 s rather than 5 s.
        "--KernelManager.shutdown_wait_time=1",
    ]


def _environment(folders: dict[str, Path]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "IPYTHON"))}
    return kept | {
        "HOME": str(folders["home"]),
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "JUPYTERLAB_SETTINGS_DIR": str(folders["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(folders["workspaces"]),
        "IPYTHONDIR": str(folders["ipython"]),
        # In a virtual environment jupyter would rank the environment's own files above ours.
        "JUPYTER_PREFER_ENV_PATH": "0",
        # The notebooks import this checkout, as the tests do.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
    }


def _wait_until_ready(server: LabServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            server.request("GET", "/api")
        except OSError:
            time.sleep(0.05)
        else:
            return
    state = "did not answer" if process.returncode is None else f"ended with status {process.returncode}"
    raise RuntimeError(f"jupyter lab {state}. Its log:\n{server.log.read_text()}")


@dataclass(frozen=True)
class Frame:
    """One kernel message as it crossed the websocket between browser and server."""

    time: float  # seconds since the epoch, taken by the browser
    sent: bool  # True: browser to kernel
    channel: str  # shell, control, iopub or stdin
    msg_type: str
    comm_id: str  # empty where the message belongs to no widget
    size: int  # bytes, envelope and buffers included
    content: dict[str, Any]


def decode_frame(payload: bytes, *, time: float, sent: bool) -> Frame:
    """The message in a binary frame of the protocol v1.kernel.websocket.jupyter.org."""
    # The number of offsets, the offsets, then the parts they bound: channel, header, parent header,
    # metadata, content, buffers. All numbers are 8 bytes, little-endian.
    count = int.from_bytes(payload[:8], "little")
    offsets = [int.from_bytes(payload[8 * i : 8 * i + 8], "little") for i in range(1, count + 1)]
    channel, header, _, _, content = (payload[offsets[i] : offsets[i + 1]] for i in range(5))
    fields = json.loads(content)
    return Frame(
        time=time,
        sent=sent,
        channel=channel.decode(),
        msg_type=json.loads(header)["msg_type"],
        comm_id=fields.get("comm_id", ""),
        size=len(payload),
        content=fields,
    )


class Notebook:
    """One notebook open in JupyterLab, with its kernel."""

    def __init__(self, context: BrowserContext, server: LabServer, path: Path) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.path = path
        self._server = server
        self._frames: list[Frame] = []
        self._console_errors: list[str] = []
        self._kernel_sockets: set[str] = set()
        self._clock_offset = 0.0  # from the browser's monotonic clock to seconds since the epoch
        self._is_traced = False
        self._listen()

    def open(self) -> None:
        """Load the page in a fresh workspace and wait for the kernel."""
        self.page.goto(f"{self._server.url}/lab/tree/{self.path.name}?reset")
        self.wait_kernel()
        # Traced from here on, because the load itself would take 0.7 s longer, and without a film of the
        # page, which would keep the software renderer busy.
        self.context.tracing.start(snapshots=True, screenshots=False)
        self._is_traced = True

    def wait_kernel(self, *, timeout: float = 60) -> None:
        """Wait until the notebook is on the page and its kernel answers, for `timeout` seconds at most."""
        self.page.wait_for_function(
            f"() => ({KERNEL_STATUS})() === 'idle'", polling=100, timeout=timeout * 1000
        )

    def run_all(self) -> None:
        """Start all cells, and come back at once."""
        self.page.evaluate(RUN, ["notebook:run-all-cells", None])

    def run_cell(self, index: int) -> None:
        """Start one cell, counted from 0, and come back at once."""
        self.page.evaluate(RUN, ["notebook:run-cell", index])

    def wait_idle(self, *, timeout: float = 60) -> None:
        """Wait until no cell is running or queued, for `timeout` seconds at most."""
        self.page.wait_for_function(f"() => !({IS_BUSY})()", polling=50, timeout=timeout * 1000)

    def is_busy(self) -> bool:
        """Whether a cell is running or queued."""
        return bool(self.page.evaluate(IS_BUSY))

    def kernel_status(self) -> str:
        """The kernel's status as JupyterLab knows it: idle, busy, unknown, ..., or none."""
        return str(self.page.evaluate(KERNEL_STATUS))

    def evaluate(self, expression: str, argument: Any = None) -> Any:
        """What a JavaScript expression or function gives on the page."""
        return self.page.evaluate(expression, argument)

    def cell(self, index: int) -> Locator:
        """The place of one cell on the page, its output included."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def screenshot(self, name: str) -> Path:
        """The path of a picture of the page, taken now."""
        path = OUTPUT / f"{name}.png"
        OUTPUT.mkdir(exist_ok=True)
        self.page.screenshot(path=path)
        return path

    def keep_evidence(self, name: str) -> None:
        """Save a picture and Playwright's trace, and print their places and the console's errors."""
        print(f"kept {self.screenshot(name)}")
        if self._is_traced:
            trace = OUTPUT / f"{name}.zip"
            self.context.tracing.stop(path=trace)
            print(f"kept {trace}: see it with playwright show-trace")
        print(*self.console_errors, sep="\n")

    @property
    def websocket_frames(self) -> list[Frame]:
        """Every kernel message so far, in both directions, oldest first."""
        self._catch_up()
        return list(self._frames)

    @property
    def console_errors(self) -> list[str]:
        """Every error so far on the page's console, and every exception nobody caught there."""
        self._catch_up()
        return list(self._console_errors)

    def _catch_up(self) -> None:
        # Playwright delivers events only while one of its calls is waiting.
        if not self.page.is_closed():
            self.page.evaluate("0")

    def _listen(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._console_errors.append(str(error)))
        # The browser's own protocol, because Playwright's websocket events carry no time.
        protocol = self.context.new_cdp_session(self.page)
        protocol.on("Network.webSocketCreated", self._on_socket)
        protocol.on("Network.webSocketWillSendHandshakeRequest", self._on_handshake)
        protocol.on("Network.webSocketFrameSent", lambda event: self._on_frame(event, sent=True))
        protocol.on("Network.webSocketFrameReceived", lambda event: self._on_frame(event, sent=False))
        protocol.send("Network.enable")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._console_errors.append(f"{message.text} ({message.location['url']})")

    def _on_socket(self, event: dict[str, Any]) -> None:
        if re.search(r"/api/kernels/[^/]+/channels", event["url"]):
            self._kernel_sockets.add(event["requestId"])

    def _on_handshake(self, event: dict[str, Any]) -> None:
        self._clock_offset = event["wallTime"] - event["timestamp"]

    def _on_frame(self, event: dict[str, Any], *, sent: bool) -> None:
        # Opcode 2 is a binary frame; the other ones hold no message.
        if event["requestId"] in self._kernel_sockets and event["response"]["opcode"] == 2:
            payload = base64.b64decode(event["response"]["payloadData"])
            time = event["timestamp"] + self._clock_offset
            self._frames.append(decode_frame(payload, time=time, sent=sent))


def write_notebook(cells: list[str] | Path, folder: Path) -> Path:
    """The path in `folder` of a notebook with those code cells, or of a copy of that notebook."""
    if isinstance(cells, Path):
        return Path(shutil.copy(cells, folder))
    path = folder / f"notebook-{len(list(folder.glob('*.ipynb')))}.ipynb"
    # Named here, or JupyterLab would ask which kernel to start.
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells], metadata=metadata
    )
    nbformat.write(notebook, path)
    return path
