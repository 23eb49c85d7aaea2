"""The columns of an NVIDIA GPU that come from growing counters."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from perfmon_widgets.clocks import time
from perfmon_widgets.collectors.nvidia.errors import Missing
from perfmon_widgets.collectors.nvidia.readings import TWO_READINGS, Reading, call
from perfmon_widgets.collectors.rate import Rate, percent

# Fields of NVML: nanoseconds in which the power limit held the clock back; a moderate and a hard slowdown by
# heat and the power brake (newer drivers); the slowdown by heat of older drivers.
_POWER_CAP, _SLOWDOWNS, _THERMAL = 74, (251, 252, 253), 75
_THROTTLED_EVERY = 1.0  # seconds: the driver counts in steps


class Counters(Reading):
    """Bytes per second, sent and received, from two counters in units of ``size`` bytes."""

    def __init__(self, nvml: Any, handle: Any, link: str, fields: Sequence[int], size: int) -> None:
        super().__init__(nvml, handle)
        self.names = (f"{link}_sent_bytes_per_second", f"{link}_received_bytes_per_second")
        self._size = size
        self._rates = [Rate() for _ in fields]
        # One more than needed: for NVLink the driver may write behind the end (as nvitop found).
        self._answers = (nvml.c_nvmlFieldValue_t * (len(fields) + 1))()
        for answer, field in zip(self._answers, fields, strict=False):
            answer.fieldId = field
            answer.scopeId = 0 if size == 1 else 0xFFFFFFFF  # for NVLink: the sum of all links

    def take(self) -> Sequence[float]:
        """Return their growth per second since the last reading; raises Missing the first time."""
        nvml = self._nvml
        call(nvml, "nvmlDeviceGetFieldValues", self._handle, len(self._rates), self._answers)
        now = time.monotonic()
        grown = []
        for answer, rate in zip(self._answers, self._rates, strict=False):
            if answer.nvmlReturn:
                raise nvml.NVMLError(answer.nvmlReturn)
            grown.append(rate.update(_count(nvml, answer) * self._size, now))
        if any(map(math.isnan, grown)):
            raise Missing(TWO_READINGS, 0.0)
        return grown


class Throttled(Reading):
    """Percent of time in which the clock was held back, from NVML's counters of nanoseconds per reason.

    Being idle, at the highest stable voltage, or in step with other GPUs are no such reasons.
    """

    names = ("throttled_percent",)

    def __init__(self, nvml: Any, handle: Any) -> None:
        super().__init__(nvml, handle)
        fields = (_POWER_CAP, *_SLOWDOWNS, _THERMAL)
        self._rates = {field: Rate() for field in fields}
        self._answers = (nvml.c_nvmlFieldValue_t * (len(fields) + 1))()
        for answer, field in zip(self._answers, fields, strict=False):
            answer.fieldId = field
        self._share = self._read_at = -math.inf

    def take(self) -> Sequence[float]:
        """Return the share of at least the last second; raises Missing the first time."""
        now = time.monotonic()
        if now - self._read_at >= _THROTTLED_EVERY:
            self._share = self._since_last(now)
            self._read_at = now
        if math.isnan(self._share):
            raise Missing(TWO_READINGS, 0.0)
        return (self._share,)

    def _since_last(self, now: float) -> float:
        nvml = self._nvml
        call(nvml, "nvmlDeviceGetFieldValues", self._handle, len(self._rates), self._answers)
        shares: dict[int, float] = {}
        for answer, (field, rate) in zip(self._answers, self._rates.items(), strict=False):
            if answer.nvmlReturn == 0:
                shares[field] = rate.update(_count(nvml, answer) / 1e9, now)
            elif field == _POWER_CAP:
                raise nvml.NVMLError(answer.nvmlReturn)
        # The reasons of newer drivers contain the older one for heat.
        if not shares.keys().isdisjoint(_SLOWDOWNS):
            shares.pop(_THERMAL, None)
        if any(share > 2 for share in shares.values()):
            raise Missing("its counter has grown by more than the time that has passed", 0.0)
        return percent(sum(shares.values()), 1.0)  # reasons may hold at the same time


def _count(nvml: Any, answer: Any) -> float:
    """Return the counter in a field's answer; raises Missing for one of 32 bits."""
    kind = answer.valueType
    narrow = (nvml.NVML_VALUE_TYPE_UNSIGNED_INT, nvml.NVML_VALUE_TYPE_UNSIGNED_LONG)
    if kind == narrow[0] or (kind == narrow[1] and ctypes.sizeof(ctypes.c_ulong) == 4):
        raise Missing("its counter has 32 bits and wraps within seconds: too often for a rate")
    return float(answer.value.dVal if kind == nvml.NVML_VALUE_TYPE_DOUBLE else answer.value.ullVal)
