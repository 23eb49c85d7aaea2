"""NVML's return codes, and what a person can do about each."""

from __future__ import annotations

from typing import Any

RETRY = 60.0
"""Seconds until something that is not supported, or lost, is tried again."""

UNINITIALIZED, INVALID, NOT_SUPPORTED, NOT_FOUND, TOO_SMALL = 1, 2, 3, 6, 7
LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, OTHER_VERSION = 12, 13, 25
LOST = (15, 16)
UNSUPPORTED = (2, 3, 4, 13, 25, 26)
"""Codes that are unlikely to change soon."""

IS_LOST = "the GPU is lost: it has fallen off the bus; restart the machine"
_REASONS = {
    2: "the driver refuses this call for this GPU",
    3: "not supported by this GPU or its driver",
    4: "not permitted to this user: ask the administrator of this machine",
    13: "this driver is too old to report this",
    15: IS_LOST,
    16: "the GPU needs a reset: run nvidia-smi --gpu-reset, or restart the machine",
    18: "the driver was updated under this process: restart the machine or the container",
    26: "this driver no longer reports this",
    999: "the driver reports an unknown error; a container may have lost its GPUs: restart it",
}
_CANNOT_OPEN = {
    4: "no permission to use the NVIDIA driver: check who may open /dev/nvidiactl",
    9: "the NVIDIA driver is installed but not loaded: load it (sudo modprobe nvidia), or start the container"
    " with its GPUs",
    12: "no NVIDIA driver on this machine: its library libnvidia-ml.so.1 was not found",
    13: "the NVIDIA driver is too old for this version of nvidia-ml-py: update the driver",
    18: "the NVIDIA driver was updated but its old version is still loaded: restart the machine, or the"
    " container",
}


class Missing(Exception):  # noqa: N818 - nothing went wrong
    """A reading is missing although the driver answered: the reason, and seconds until the next attempt."""

    def __init__(self, reason: str, wait: float = RETRY) -> None:
        super().__init__(reason)
        self.wait = wait


def explain(error: Any) -> str:
    """Return what an NVMLError means, in words that a person can act on."""
    return _REASONS.get(error.value) or f"the driver reports: {error}"


def explain_opening(error: Any) -> str:
    """Return what an NVMLError of nvmlInit means, in words that a person can act on."""
    return _CANNOT_OPEN.get(error.value, f"the NVIDIA driver does not work: {explain(error)}")
