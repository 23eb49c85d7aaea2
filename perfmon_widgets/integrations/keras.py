"""PerformanceCallback for Keras 3: spans, steps, the wait for data and logged values in a monitor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras.callbacks import Callback

from perfmon_widgets.integrations.training import Training

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor


class PerformanceCallback(Callback):
    """``model.fit(x, y, callbacks=[PerformanceCallback()])`` adds the training to the rows of a monitor.

    A span for each epoch, validation and evaluation; ``steps_per_second``, where a step is a batch, and
    ``waiting_percent``; and the logs, under their names. What other callbacks do between two batches counts
    as waiting. Keras reads the logs on a thread of its own, so this never makes the loop wait for a GPU.

    Args:
        monitor: where to record; by default the shared monitor or the one that runs, which is started.
        batch_size: samples in a batch, which Keras does not tell its callbacks; for ``samples_per_second``.
    """

    async_safe = True  # otherwise Keras would wait for the GPU after each batch

    def __init__(self, monitor: PerformanceMonitor | None = None, *, batch_size: int | None = None) -> None:
        super().__init__()
        self._training = Training(monitor, library="keras")
        self._samples = math.nan if batch_size is None else float(batch_size)

    def on_train_begin(self, *_: object, **__: object) -> None:
        """End the spans of a training that has raised."""
        self._training.end(raised=True)

    def on_epoch_begin(self, epoch: int, *_: object, **__: object) -> None:
        """Begin a span, with the number that Keras shows."""
        self._training.enter(f"epoch {epoch + 1}", steps=True)

    def on_epoch_end(self, _epoch: int, logs: Mapping[str, object] | None = None) -> None:
        """Record the values of the epoch and of its validation, and end its span."""
        self._training.record(logs or {})
        self._training.leave()

    def on_train_batch_begin(self, batch: int, *_: object, **__: object) -> None:
        """Begin a step, or the several that Keras makes in one."""
        for _step in range(self.model.steps_per_execution):
            self._training.step(self._samples, number=batch)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, object] | None = None) -> None:
        """Wait for the next batch, unless it has come; Keras may call this late and on another thread."""
        self._training.wait(number=batch)
        self._training.record(logs or {})

    def on_test_begin(self, *_: object, **__: object) -> None:
        """Begin a span."""
        self._training.enter("validation" if self._training.innermost else "evaluation")

    def on_test_end(self, logs: Mapping[str, object] | None = None) -> None:
        """End it. The values of a validation come at the end of the epoch, with names of their own."""
        if self._training.innermost == "evaluation":
            self._training.record({f"evaluation/{name}": value for name, value in (logs or {}).items()})
        self._training.leave()

    def on_train_end(self, *_: object, **__: object) -> None:
        """End what is left."""
        self._training.end()
