"""Real Jupyter servers of several kinds, started and ended by the tests."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

REPOSITORY = Path(__file__).parents[2]
THIS_PYTHON = Path(sys.executable)

Theme = Literal["light", "dark", "dark high contrast"]


@dataclass(frozen=True)
class FrontEnd:
    """A program that shows notebooks in a browser."""

    name: str
    module: str  # what Python runs
    address: str  # of a notebook, below the server's
    packages: tuple[str, ...] = ()  # of an environment of its own; none: that of the tests
    extensions: tuple[str, ...] = ()  # widget libraries of the tests' environment that this one is lent


LAB_PAGE = "lab/tree/{}?reset"
LAB = FrontEnd("JupyterLab", "jupyterlab", LAB_PAGE)
# Its environment has neither bqplot nor anywidget: it is lent their front ends, or not.
OLD_LAB = ("jupyterlab==4.3.*", "ipywidgets")
LAB_BARE = FrontEnd("JupyterLab 4.3 without bqplot and anywidget", "jupyterlab", LAB_PAGE, OLD_LAB)
LAB_4_3 = FrontEnd("JupyterLab 4.3", "jupyterlab", LAB_PAGE, OLD_LAB, ("bqplot", "bqscales", "anywidget"))
NOTEBOOK = FrontEnd("Notebook 7", "notebook", "notebooks/{}")
VOILA = FrontEnd("Voilà", "voila", "voila/render/{}")


def environment(front_end: FrontEnd, cache: pytest.Cache) -> Path:
    """The Python in whose environment a front end is installed.

    Where that is not the one of the tests, it is made once, in the cache of pytest.
    """
    if not front_end.packages:
        return THIS_PYTHON
    folder = cache.mkdir("-".join(front_end.packages).replace("*", "x").replace("=", ""))
    python, done = folder / "bin" / "python", folder / "installed"
    # Here, because for a script of this folder the folder above is not on the path.
    from one_at_a_time import one_at_a_time

    with one_at_a_time(folder):
        if not done.exists():
            # Without a pip of its own, which would take longer than all the rest.
            venv = [THIS_PYTHON, "-m", "venv", "--clear", "--without-pip", folder]
            subprocess.run(venv, check=True, timeout=120)
            pip = [THIS_PYTHON, "-m", "pip", "--python", python, "install", "-qq"]
            subprocess.run([*pip, *front_end.packages], check=True, timeout=600)
            done.touch()
    return python


@dataclass
class Server:
    """A running Jupyter server: its address, the folder it serves and its log."""

    front_end: FrontEnd
    port: int
    root: Path
    log: Path
    settings: Path
    kernels: dict[str, str] = field(default_factory=dict)  # names by version of ipykernel

    @property
    def url(self) -> str:
        """Its address as a browser on this machine reaches it."""
        return f"http://127.0.0.1:{self.port}"

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

    def start_kernel(self, notebook: Path, version: str) -> None:
        """Start the kernel of a notebook before its page is opened, which will find it."""
        path = str(notebook.relative_to(self.root))
        kernel = {"name": self.kernels[version]}
        self.request(
            "POST", "/api/sessions", {"path": path, "name": path, "type": "notebook", "kernel": kernel}
        )

    def set_theme(self, theme: Theme) -> None:
        """Choose the theme of the pages opened from now on."""
        self._write_setting("apputils-extension/themes", {"theme": f"JupyterLab {theme.title()}"})

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
        path = self.settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


@contextmanager
def start_server(
    folder: Path,
    front_end: FrontEnd = LAB,
    python: Path = THIS_PYTHON,
    *,
    extensions: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
) -> Iterator[Server]:
    """A Server that keeps all it writes in `folder`, with those server extensions and options added.

    Raises RuntimeError, with the log, when the server does not come up within a minute.
    """
    names = ["home", "config", "data", "runtime", "settings", "workspaces", "ipython", "root", "path"]
    folders = {name: folder / name for name in names}
    for path in folders.values():
        path.mkdir(parents=True)
    server_config = folders["config"] / "jupyter_server_config.json"
    server_config.write_text(
        json.dumps({"ServerApp": {"jpserver_extensions": dict.fromkeys(extensions, True)}})
    )
    page_config = folders["config"] / "labconfig" / "page_config.json"
    page_config.parent.mkdir()
    page_config.write_text(json.dumps({"exposeAppInBrowser": True}))  # for the tests to ask the application
    _lend(front_end.extensions, folders["path"])

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(front_end, port, folders["root"], folder / "server.log", folders["settings"])
    server.write_settings()
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [*_command(server, python), *options],
            env=_environment(folders, python),
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
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


def _lend(extensions: tuple[str, ...], path: Path) -> None:
    """Have a server whose JUPYTER_PATH that is find those extensions of the tests' environment."""
    for name in extensions:
        link = path / "labextensions" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(Path(sys.prefix) / "share" / "jupyter" / "labextensions" / name)


def _command(server: Server, python: Path) -> list[str]:
    run = [str(python), "-m", server.front_end.module, "--no-browser", f"--port={server.port}"]
    # A kernel that is still busy when its test ends is killed after 1 s rather than 5 s.
    run.append("--KernelManager.shutdown_wait_time=1")
    if server.front_end is VOILA:
        return [*run, "--Voila.ip=127.0.0.1", "--show_tracebacks=True", str(server.root)]
    run += ["--allow-root", "--ip=127.0.0.1", "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    run += ["--ServerApp.password=", f"--ServerApp.root_dir={server.root}"]
    return [*run, "--LabApp.extension_manager=readonly"] if server.front_end.module == "jupyterlab" else run


def _environment(folders: Mapping[str, Path], python: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "IPYTHON"))}
    outer = kept.pop("PYTHONPATH", "")
    if python == THIS_PYTHON:
        # The notebooks import this checkout, as the tests do.
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), outer]))
    return kept | {
        "HOME": str(folders["home"]),
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "JUPYTER_PATH": str(folders["path"]),
        "JUPYTERLAB_SETTINGS_DIR": str(folders["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(folders["workspaces"]),
        "IPYTHONDIR": str(folders["ipython"]),
        # In a virtual environment jupyter would rank the environment's own files above ours.
        "JUPYTER_PREFER_ENV_PATH": "0",
    }


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", server.port), timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    state = "did not answer" if process.returncode is None else f"ended with status {process.returncode}"
    raise RuntimeError(f"{server.front_end.name} {state}. Its log:\n{server.log.read_text()}")
