"""PerformanceCallback for Lightning: spans, steps, the wait for data and logged values in a monitor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from perfmon_widgets.core.steps import samples_in
from perfmon_widgets.integrations.training import Training

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor

# Lightning is published under two names. A callback of one works in a Trainer of the other, so this only
# avoids importing a second copy.
if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback


class PerformanceCallback(Callback):
    """``Trainer(callbacks=[PerformanceCallback()])`` adds the training to the rows of a monitor.

    A span for each epoch, validation and test; ``steps_per_second``, where a step is a batch,
    ``samples_per_second`` and ``waiting_percent``; and what the module logs, under its names. Values stay on
    the GPU until the next sample reads them. What callbacks after this one and loggers do between two batches
    counts as waiting; validation, and as a rule the saving of checkpoints, do not.

    Args:
        monitor: where to record; by default the shared monitor or the one that runs, which is started.
            Each process of a distributed training has its own.
    """

    def __init__(self, monitor: PerformanceMonitor | None = None) -> None:
        super().__init__()
        self._training = Training(monitor)
        self._logged: dict[str, Any] = {}

    def _record(self, trainer: Any) -> None:
        # Lightning keeps the values of former steps, such as those of the last validation.
        logged, self._logged = self._logged, dict(trainer.logged_metrics)
        new = {name: value for name, value in self._logged.items() if value is not logged.get(name)}
        self._training.record(new)

    def on_sanity_check_start(self, *_: object) -> None:
        """Begin a span."""
        self._training.enter("sanity check")

    def on_sanity_check_end(self, *_: object) -> None:
        """End it."""
        self._training.leave()

    def on_train_epoch_start(self, trainer: Any, *_: object) -> None:
        """Begin a span, with the number that Lightning shows."""
        self._training.enter(f"epoch {trainer.current_epoch}", steps=True)

    def on_train_epoch_end(self, trainer: Any, *_: object) -> None:
        """Record the values of the epoch, and end its span."""
        self._record(trainer)
        self._training.leave()

    def on_train_batch_start(self, _trainer: Any, _module: Any, batch: object, *_: object) -> None:
        """Begin a step."""
        self._training.step(samples_in(batch))

    def on_train_batch_end(self, trainer: Any, *_: object) -> None:
        """Record the values of the step, and wait for the next batch."""
        # In this order: if a value is in the progress bar, Lightning reads its number from the GPU after each
        # batch, at the latest right after this hook. By asking for the values that is done before wait(): to
        # wait for the GPU is not to wait for data.
        self._record(trainer)
        self._training.wait()

    def on_validation_start(self, trainer: Any, *_: object) -> None:
        """Begin a span; the sanity check has its own."""
        if not trainer.sanity_checking:
            self._training.enter("validation")

    def on_validation_end(self, trainer: Any, *_: object) -> None:
        """Record the values of the validation, and end its span."""
        if not trainer.sanity_checking:
            self._record(trainer)
            self._training.leave()

    def on_test_start(self, *_: object) -> None:
        """Begin a span."""
        self._training.enter("test")

    def on_test_end(self, trainer: Any, *_: object) -> None:
        """Record the values of the test, and end its span."""
        self._record(trainer)
        self._training.leave()

    def on_save_checkpoint(self, *_: object) -> None:
        """Do not count the saving as waiting for data."""
        self._training.pause()

    def on_exception(self, *_: object) -> None:
        """End all spans."""
        self._training.end(raised=True)

    def teardown(self, *_: object, **__: object) -> None:
        """End what is left."""
        self._training.end()
