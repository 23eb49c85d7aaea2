"""The rules of the tests themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_a_unit_test_that_starts_a_program_fails(tmp_path):
    shutil.copy(TESTS / "unit" / "conftest.py", tmp_path)
    (tmp_path / "test_program.py").write_text(
        "import subprocess, sys\n"
        "def test_program():\n    subprocess.run([sys.executable, '-c', ''], check=True)\n"
        "def test_none():\n    pass\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # quicker
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "1 failed, 1 passed" in ran.stdout
    assert "move the test to tests/integration" in ran.stdout
