"""The workers of real frameworks: their CPU time and memory, against a full walk over all processes."""

from __future__ import annotations

from importlib.util import find_spec

import accuracy
import pytest
import tree_jobs

# Not importorskip(): PyTorch takes seconds to import, and only the processes that are started need it.
if missing := [name for name in ("torch", "loky") if find_spec(name) is None]:
    pytest.skip(f"{missing[0]} is not installed: pip install '.[frameworks]'", allow_module_level=True)

pytestmark = pytest.mark.alone  # they need the CPUs for themselves


@pytest.mark.parametrize("name", tree_jobs.FRAMEWORKS)
def test_the_cpu_time_and_memory_of_its_workers_are_what_a_full_walk_finds(name):
    """Of the memory, in every row."""
    assert [row for row in accuracy.tree_rows(name) if not row.agrees] == []
