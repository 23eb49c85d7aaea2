"""Which AMD GPUs this process and its descendants use, found without waking any of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from perfmon_widgets.collectors.allowance import Allowance
from perfmon_widgets.collectors.linux.processes import PROC, Members, children, own_number

# ROCm opens every GPU it may use and takes a few megabytes on each. A GPU is in use above this many bytes.
_IN_USE = 16 * 2**20
# Seconds after which to search again.
_SEARCH_EVERY = 2.0

_UNITS = {b"": 1, b"KiB": 2**10, b"MiB": 2**20, b"GiB": 2**30}


class Search:
    """Search for the GPUs on which a process (this one, or ``root``) and its descendants hold memory.

    ``members`` lists descendants that are known already: one whose parent has ended is found only there.
    """

    def __init__(
        self,
        proc: Path = PROC,
        root: int | None = None,
        members: Members = tuple,
    ) -> None:
        self._proc, self._root, self._members = proc, root, members
        self._allowance = Allowance(_SEARCH_EVERY)
        self._found: set[str] = set()

    def look(self) -> set[str]:
        """Return the PCI addresses of the GPUs in use so far; searches again every two seconds at most.

        Read from ``/proc/<pid>/fdinfo`` of the open render nodes, which counts what that process has
        allocated, including ROCm's memory; this also works in containers.
        """
        if self._allowance.due():
            with self._allowance:
                held: dict[tuple[str, bytes], int] = {}
                seen: set[int] = set()
                for process in (self._root or own_number(self._proc), *self._members()):
                    if process not in seen:
                        self._search(process, held, seen)
                totals: dict[str, int] = {}
                for (pci, _), size in held.items():
                    totals[pci] = totals.get(pci, 0) + size
                self._found |= {pci for pci, size in totals.items() if size > _IN_USE}
        return self._found

    def _search(self, process: int, held: dict[tuple[str, bytes], int], seen: set[int]) -> None:
        seen.add(process)
        folder = f"{self._proc}/{process}"
        for number in _render_nodes(f"{folder}/fd"):
            try:
                content = Path(f"{folder}/fdinfo/{number}").read_bytes()
            except OSError:
                continue  # the file was closed
            fields = dict(line.split(b":", 1) for line in content.splitlines() if b":" in line)
            if fields.get(b"drm-driver", b"").strip() == b"amdgpu" and b"drm-pdev" in fields:
                # Copies of one open file, in this process or in a forked child, have the same client id.
                client = fields[b"drm-pdev"].strip().decode(), fields.get(b"drm-client-id", b"").strip()
                # An APU allocates memory of the machine (GTT) rather than its own small VRAM.
                held[client] = max(held.get(client, 0), _bytes(fields, b"vram") + _bytes(fields, b"gtt"))
        for child in children(process, self._proc):
            if child not in seen:
                self._search(child, held, seen)


def _render_nodes(folder: str) -> Iterator[str]:
    """Yield the numbers of the open files in this folder that are GPUs."""
    try:
        numbers = os.listdir(folder)  # noqa: PTH208 - names are enough
    except OSError:
        return  # the process has ended, or belongs to another user
    for number in numbers:
        try:
            if os.readlink(f"{folder}/{number}").startswith("/dev/dri/"):  # noqa: PTH115 - the text is enough
                yield number
        except OSError:
            continue  # the file was closed


def _bytes(fields: Mapping[bytes, bytes], kind: bytes) -> int:
    """Return the bytes of one kind of memory of an open render node; old drivers use the second name."""
    text = fields.get(b"drm-resident-" + kind) or fields.get(b"drm-memory-" + kind) or b"0"
    number, _, unit = text.strip().partition(b" ")
    return int(number) * _UNITS.get(unit.strip(), 1) if number.isdigit() else 0
