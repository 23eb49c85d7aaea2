"""The vendors of GPUs, and the collectors that they make.

A new vendor is a folder here, with the two functions of Vendor in its ``__init__``, and one entry in VENDORS.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from perfmon_widgets.collectors import Broken, Collector, amd, nvidia
from perfmon_widgets.collectors.linux.processes import Members

_logger = logging.getLogger(__name__)


class Vendor(Protocol):
    """The functions that a vendor's package must have."""

    def known_uuids(self) -> Sequence[str]:
        """Return the UUID, or "", of each GPU of this vendor, in the order of their numbers; wakes no GPU."""
        ...

    def make(
        self, gpus: Sequence[int | str] | None, first: int, root: int | None, members: Members
    ) -> Collector:
        """Return the collector of this vendor's GPUs.

        ``gpus`` are numbers or UUIDs; None means those in use. ``first`` is the number of the vendor's first
        GPU. ``root`` is the process whose GPUs are searched for, instead of this one. ``members`` lists
        descendants of it that are known already, also those whose parent has ended.

        Raises FileNotFoundError if this machine has no GPU of the vendor, another OSError if it has some that
        cannot be read, and ValueError for an unknown GPU.
        """
        ...


VENDORS: Sequence[Vendor] = (nvidia, amd)
"""In the order of the GPUs' numbers. NVIDIA comes first, so that its numbers are those of nvidia-smi."""


def gpu_collectors(
    gpus: Sequence[int | str] | None, root: int | None, members: Members = tuple
) -> list[Collector]:
    """Return the collectors of the GPUs that the user names, or (None) of all vendors that have GPUs here.

    Raises ValueError if a named GPU does not exist or cannot be read.
    """
    uuids = [vendor.known_uuids() for vendor in VENDORS]
    named = [None] * len(VENDORS) if gpus is None else _by_vendor(gpus, uuids)
    collectors: list[Collector] = []
    first = 0
    for vendor, its_uuids, wanted in zip(VENDORS, uuids, named, strict=True):
        if wanted != []:
            collectors += _made(vendor, wanted, first, root, members)
        first += len(its_uuids)
    return collectors


def _made(
    vendor: Vendor, gpus: Sequence[int | str] | None, first: int, root: int | None, members: Members
) -> Sequence[Collector]:
    """Return the collector of a vendor, nothing if it has no GPU here, or Broken with the reason."""
    try:
        return [vendor.make(gpus, first, root, members)]
    except OSError as error:
        if gpus is not None:
            raise ValueError(f"GPU {gpus[0]!r} cannot be read: {error}") from None
        if isinstance(error, FileNotFoundError):
            _logger.info("%s", error)
            return []
        _logger.warning("%s", error)
        return [Broken("gpu", str(error))]


def _by_vendor(gpus: Sequence[int | str], uuids: Sequence[Sequence[str]]) -> list[list[int | str]]:
    """Return for each vendor those of the named GPUs that are its own.

    An unknown name goes to the first vendor, NVIDIA. NVML also finds MIG slices, and GPUs that /proc does not
    list (WSL); for any other name the collector raises ValueError.
    """
    named: list[list[int | str]] = [[] for _ in uuids]
    owners: dict[str, int] = {}
    number = 0
    for vendor, its_uuids in enumerate(uuids):
        for uuid in its_uuids:
            owners[str(number)] = vendor
            if uuid:
                owners[uuid] = vendor
            number += 1
    for gpu in gpus:
        named[owners.get(str(gpu), 0)].append(gpu)
    return named
