"""Jupyter kernels of several ipykernel versions, side by side in one environment."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import zmq
from one_at_a_time import one_at_a_time

OLDER = ("6.31.0", "7.1.0")
"""The last ipykernel without subshells, and the first with them that can send from a thread."""
NEWEST = version("ipykernel")
"""The one that is installed."""


def install_kernelspecs(data: Path, cache: pytest.Cache, *paths: Path) -> dict[str, str]:
    """Make a kernelspec for each version below a Jupyter data directory; returns their names by version.

    The older versions are installed once into the cache of pytest. ``paths`` come before them on the path on
    which those kernels find their modules.
    """
    return {each: _kernelspec(data, each, [*paths, *_folders(each, cache)]) for each in (*OLDER, NEWEST)}


def _folders(wanted: str, cache: pytest.Cache) -> list[Path]:
    if wanted == NEWEST:
        return []
    folder = cache.mkdir(f"ipykernel-{wanted}")
    with one_at_a_time(folder):
        if not (folder / "ipykernel" / "kernelapp.py").exists():
            # What it depends on is here already; only the kernel is to be another one.
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
            subprocess.run([*pip, f"ipykernel=={wanted}"], check=True, timeout=300)
    return [folder]


def _kernelspec(data: Path, wanted: str, paths: list[Path]) -> str:
    name = f"ipykernel-{wanted}"
    folder = data / "kernels" / name
    folder.mkdir(parents=True, exist_ok=True)
    outer = os.environ.get("PYTHONPATH")
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": name,
        "language": "python",
        "env": {"PYTHONPATH": os.pathsep.join([*map(str, paths), *([outer] if outer else [])])},
    }
    (folder / "kernel.json").write_text(json.dumps(spec))
    return name


@contextlib.contextmanager
def woken(runtime: Path, name: str) -> Iterator[None]:
    """Connect to the kernels of that kernelspec twice a second; their connection files are in a folder.

    ipykernel 7.0 to 7.3 may leave the first request of a new connection unread until somebody else connects
    (ipykernel#1554): with 7.1.0 up to 3 % of them, and each test in a browser makes several.
    """
    ended = threading.Event()

    def connect() -> None:
        with zmq.Context() as context:
            context.linger = 0
            while not ended.is_set():
                with contextlib.ExitStack() as connections:
                    for address in _shell_addresses(runtime, name):
                        connections.enter_context(context.socket(zmq.DEALER)).connect(address)
                    ended.wait(0.5)

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _shell_addresses(runtime: Path, name: str) -> Iterator[str]:
    for file in runtime.glob("kernel-*.json"):
        with contextlib.suppress(OSError, ValueError):  # it has gone, or is being written
            connection = json.loads(file.read_text())
            if connection["kernel_name"] == name:
                yield f"tcp://{connection['ip']}:{connection['shell_port']}"
