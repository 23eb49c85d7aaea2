"""Collectors that do as they are told, and a subscriber that can be waited for."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence

from perfmon_widgets.metrics import Metric, Sample


def metric(name: str, **more: object) -> Metric:
    """A metric whose unit is what follows the last underscore of its name, or none."""
    unit = name.rpartition("_")[2] if "_" in name else ""
    return Metric(name, unit, "cpu", f"About {name}.", **more)  # type: ignore[arg-type]


class FakeCollector:
    """Fills its columns with 0, 1, 2 … one number per reading, or with what ``read`` returns."""

    def __init__(
        self,
        *names: str,
        read: Callable[[], Mapping[str, float]] | None = None,
        metrics: Sequence[Metric] = (),
    ) -> None:
        self.metrics: Sequence[Metric] = (*map(metric, names), *metrics)
        self.read = read
        self.readings = 0

    def collect(self) -> Mapping[str, float]:
        number = self.readings
        self.readings += 1
        if self.read is not None:
            return self.read()
        return dict.fromkeys((metric.name for metric in self.metrics), float(number))


class OtherCollector(FakeCollector):
    """Another source, with a name of its own in ``errors``."""


class Samples:
    """A subscriber whose samples can be waited for."""

    def __init__(self) -> None:
        self._samples: queue.SimpleQueue[Sample] = queue.SimpleQueue()

    def __call__(self, sample: Sample) -> None:
        self._samples.put(sample)

    def next(self, timeout: float = 10.0) -> Sample:
        """The next sample that was told; fails the test if none comes."""
        try:
            return self._samples.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no sample within {timeout} s") from None

    def __len__(self) -> int:
        return self._samples.qsize()
