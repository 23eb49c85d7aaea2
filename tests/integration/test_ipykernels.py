"""The kernels of several versions that other tests use are what they say they are."""

from __future__ import annotations

import pytest
from ipykernels import NEWEST, OLDER, install_kernelspecs
from jupyter_client.manager import start_new_kernel


@pytest.mark.parametrize("version", [*OLDER, NEWEST])
def test_a_kernel_of_that_version_starts(version, tmp_path, monkeypatch, pytestconfig):
    names = install_kernelspecs(tmp_path, pytestconfig.cache)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    manager, client = start_new_kernel(kernel_name=names[version])
    try:
        reply = client.execute_interactive(
            "import ipykernel, json", user_expressions={"version": "ipykernel.__version__"}, timeout=60
        )
        assert version in reply["content"]["user_expressions"]["version"]["data"]["text/plain"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
