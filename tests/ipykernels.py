"""Jupyter kernels of several ipykernel versions, side by side in one environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

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
