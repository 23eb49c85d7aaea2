"""Steps: passes on the batches of a loader, and measures how long the loop waits for each.

A loop alternates between two states: it waits for the next batch, or it works on one. Steps only notes when
the state changes. The sampling thread reads from that, with each sample, what happened since the one before.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from perfmon_widgets.clocks import time
from perfmon_widgets.forks import renew_after_fork
from perfmon_widgets.metrics import RECORDED, Metric

Batch = TypeVar("Batch")

METRICS = (
    Metric(
        name="steps_per_second",
        unit="steps_per_second",
        group=RECORDED,
        label="steps",
        help="Batches that loops over monitor.steps() took, per second in which such a loop ran.",
        source="steps()",
    ),
    Metric(
        name="waiting_percent",
        unit="percent",
        group=RECORDED,
        limit=100.0,
        label="waiting for data",
        help="Share of the time of loops over monitor.steps() in which they waited for the next batch.",
        source="steps()",
    ),
    Metric(
        name="samples_per_second",
        unit="samples_per_second",
        group=RECORDED,
        label="samples",
        help="Samples in the batches that loops over monitor.steps() took, per second in which such a loop"
        " ran; only where it is certain how many a batch has.",
        source="steps()",
    ),
)

# How many parts of each list, tuple or mapping are looked at: a batch may be a list of a million numbers.
_MOST_PARTS = 8

_UNCERTAIN = "it is not certain how many samples a batch has"
# Less time, in seconds, is counted with the next sample: a share of it would say nothing.
_LEAST = 0.001


class _Sums(NamedTuple):
    """What loops did in some time."""

    seconds: float = 0.0
    waited: float = 0.0
    """The seconds of these in which they waited."""
    steps: int = 0
    samples: float = 0.0
    """Those of the batches of which that is known."""
    unknown: int = 0
    """How many batches there were of which it is not known."""

    def plus(self, other: _Sums, sign: int = 1) -> _Sums:
        return _Sums(
            self.seconds + sign * other.seconds,
            self.waited + sign * other.waited,
            self.steps + sign * other.steps,
            self.samples + sign * other.samples,
            self.unknown + sign * other.unknown,
        )


class Loop:
    """One pass over a loader. It waits for its first batch from the beginning."""

    __slots__ = ("counted", "meter", "started", "state")

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.started = now = meter.clock()
        self.counted = _Sums()
        """What has been read of it already."""
        # Steps, samples, batches with an unknown number of them, seconds waited, and since when it waits (NaN
        # while it works). It is replaced as a whole, so that the sampling thread never sees half of a change.
        self.state = (0, 0.0, 0, 0.0, now)

    def take(self, samples: float = math.nan) -> None:
        """Note that the next batch is here, on which the loop works from now on, and its samples if known."""
        steps, before, unknown, waited, since = self.state
        now = self.meter.clock()
        if since <= now:
            waited += now - since
        if math.isnan(samples):
            samples, unknown = 0.0, unknown + 1
        self.state = steps + 1, before + samples, unknown, waited, math.nan

    def wait(self) -> None:
        """Note that the loop waits for the next batch from now on."""
        steps, samples, unknown, waited, _ = self.state
        self.state = steps, samples, unknown, waited, self.meter.clock()

    def end(self) -> None:
        """Count what is left of it; does nothing the second time."""
        self.meter.end(self)

    def rest(self, now: float) -> _Sums:
        """Return what it did since the last call."""
        steps, samples, unknown, waited, since = self.state
        if since <= now:
            waited += now - since
        sums = _Sums(now - self.started, waited, steps, samples, unknown)
        new, self.counted = sums.plus(self.counted, -1), sums
        return new


class Meter:
    """Adds up what the loops of one monitor do between two samples. Safe to use from any thread."""

    metrics = METRICS

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.errors: dict[str, str] = {}
        """Why a number is missing, by column."""
        self._read_at = -math.inf
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: a new lock, and no loops, since those are the parent's."""
        # Reentrant: a loop may be dropped, and so be ended, while this thread reads the others.
        self._lock = threading.RLock()
        self._loops: set[Loop] = set()
        self._ended = _Sums()  # what loops that have ended did since the last reading

    def begin(self) -> Loop:
        """Return a new loop, which waits for its first batch."""
        loop = Loop(self)
        with self._lock:
            self._loops.add(loop)
        return loop

    def end(self, loop: Loop) -> None:
        """Count what is left of a loop, for the next reading."""
        with self._lock:
            if loop in self._loops:
                self._loops.remove(loop)
                self._ended = self._ended.plus(loop.rest(self.clock()))

    @property
    def waiting(self) -> bool:
        """Whether there is something for the next reading."""
        return bool(self._loops) or self._ended.seconds >= _LEAST

    def collect(self) -> Mapping[str, float]:
        """Return the rates since the reading before; nothing if no loop ran."""
        with self._lock:
            now = self.clock()
            sums, self._ended = self._ended, _Sums()
            for loop in tuple(self._loops):
                sums = sums.plus(loop.rest(now))
            if sums.seconds < _LEAST:
                self._ended = sums
                return {}
            # Loops that run at the same time share that time.
            seconds = max(min(sums.seconds, now - self._read_at), _LEAST)
            self._read_at = now
        self.errors = {METRICS[2].name: _UNCERTAIN} if sums.unknown else {}
        waiting = 100 * sums.waited / sums.seconds
        samples = math.nan if sums.unknown else sums.samples
        numbers = sums.steps / seconds, min(max(waiting, 0.0), 100.0), samples / seconds
        return {metric.name: number for metric, number in zip(METRICS, numbers, strict=True)}


class Steps(Generic[Batch]):
    """The batches of a loader. Each pass over this is a pass over the loader; ``len()`` is the loader's."""

    def __init__(self, loader: Iterable[Batch], meter: Meter) -> None:
        self._loader = loader
        self._meter = meter

    def __len__(self) -> int:
        sized: Any = self._loader  # raises TypeError if the loader does
        return len(sized)

    def __iter__(self) -> Iterator[Batch]:
        # Written for speed: a step costs one to three microseconds, and a loop may make thousands a second.
        clock, loop = self._meter.clock, self._meter.begin()
        steps, samples, unknown, waited, since = loop.state
        kind: type | None = None
        count: Callable[[Any], float] = _unknown
        try:
            for batch in self._loader:
                waited += clock() - since
                steps += 1
                try:
                    if type(batch) is not kind:
                        kind, count = type(batch), _counter(batch)
                    number = count(batch)
                except Exception:  # noqa: BLE001 - code of the batch's class
                    number = math.nan
                if number == number:  # noqa: PLR0124 - quicker than isnan()
                    samples += number
                else:
                    unknown += 1
                loop.state = steps, samples, unknown, waited, math.nan
                yield batch
                since = clock()
                loop.state = steps, samples, unknown, waited, since
        finally:
            self._meter.end(loop)


def samples_in(batch: object) -> float:
    """Return the number of samples in a batch; NaN if that is not known."""
    try:
        return _counter(batch)(batch)
    except Exception:  # noqa: BLE001 - code of the batch's class
        return math.nan


def _counter(batch: object) -> Callable[[Any], float]:
    """Return what counts the samples in batches of this type."""
    if isinstance(batch, (list, tuple, Mapping)):
        return _samples_in_parts
    return len if _has_length(batch) else _unknown


def _samples_in_parts(batch: Any) -> float:
    """Return the number of samples in a list, a tuple or a mapping; NaN if that is not certain.

    It has the parts of a batch, such as inputs and labels, which may have parts themselves. The first
    dimension of each tensor is the number of samples, if it is the same in all, and at least one of them
    cannot be a sample by itself. Without tensors it is the length of the first part, or of the batch if its
    first part has none.
    """
    sizes: dict[int, bool] = {}
    _add_sizes(batch, True, sizes)
    if sizes:
        [(number, sure), *others] = sizes.items()
        return number if sure and not others else math.nan
    is_mapping = isinstance(batch, Mapping)
    first: Any = next(iter(batch.values() if is_mapping else batch), None)
    if isinstance(first, Mapping) or (is_mapping and not _has_length(first)):
        return math.nan
    return len(first) if _has_length(first) else len(batch)


def _add_sizes(parts: Any, sure: bool, sizes: dict[int, bool]) -> None:
    """Add the first dimension of each tensor, and whether for one of them it can only be the samples."""
    is_mapping = isinstance(parts, Mapping)
    shapes: list[tuple[int, ...]] = []
    nested: list[Any] = []
    kinds: set[object] = set()
    for part in islice(parts.values() if is_mapping else parts, _MOST_PARTS):
        shape = getattr(part, "shape", None)
        if shape is not None and len(shape):
            shapes.append(tuple(shape))
            kinds.add((len(shape), getattr(part, "dtype", None)))
        elif isinstance(part, (list, tuple, Mapping)):
            nested.append(part)
            kinds.add(frozenset(part) if isinstance(part, Mapping) else None)
    if not is_mapping and len(kinds) == 1 and not _are_batches(shapes):
        sure = False
    for shape in shapes:
        sizes[shape[0]] = sure or sizes.get(shape[0], False)
    for part in nested:
        _add_sizes(part, sure, sizes)


def _are_batches(shapes: list[tuple[int, ...]]) -> bool:
    """Whether parts of a sequence that are alike are inputs, targets and the like, and not samples.

    Samples that nobody has stacked, such as images of several sizes, are alike, too, and their first
    dimension is something else. There are rarely as few as three of them, except for images, of which that
    dimension is the number of their colours.
    """
    is_image = any(len(shape) == 3 and shape[0] in {1, 3, 4} for shape in shapes)
    return 1 <= len(shapes) <= 3 and not is_image


def _has_length(value: object) -> bool:
    try:
        sized: Any = value
        return not isinstance(value, (str, bytes)) and len(sized) >= 0
    except TypeError:
        return False


def _unknown(_: object) -> float:
    return math.nan
