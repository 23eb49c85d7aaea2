"""PerformanceCallback for the Trainer of Hugging Face: spans, steps, the wait for data and logged values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from perfmon_widgets.integrations.training import Training

if TYPE_CHECKING:
    from perfmon_widgets.core.monitor import PerformanceMonitor

_EVALUATIONS = ("validation", "evaluation")


class PerformanceCallback(TrainerCallback):
    """``Trainer(..., callbacks=[PerformanceCallback()])`` adds the training to the rows of a monitor.

    A span for each epoch, validation, and evaluation by itself; ``steps_per_second``, where a step is one of
    the optimizer, ``samples_per_second`` of this process, where the last batch counts as a full one,
    ``waiting_percent``; and what the Trainer logs, under its names. Its numbers are those that the Trainer
    has read from the GPU already.

    Args:
        monitor: where to record; by default the shared monitor or the one that runs, which is started.
            Each process of a distributed training has its own.
    """

    def __init__(self, monitor: PerformanceMonitor | None = None) -> None:
        super().__init__()
        self._training = Training(monitor, library="transformers")

    def on_train_begin(self, *_: object, **__: object) -> None:
        """End the spans of a training that has raised."""
        self._training.end(raised=True)

    def on_epoch_begin(self, _args: Any, state: Any, *_: object, **__: object) -> None:
        """Begin a span. The first epoch has the number 1, as in the Trainer's logs at its end."""
        self._leave_evaluation()
        self._training.enter(f"epoch {int(state.epoch or 0) + 1}", steps=True)

    def on_step_begin(self, args: Any, state: Any, *_: object, **__: object) -> None:
        """Begin a step: all its batches are here."""
        self._leave_evaluation()
        batch = state.train_batch_size or args.train_batch_size
        self._training.step(batch * args.gradient_accumulation_steps)

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: object) -> None:
        """Wait for the next batches, or begin a span for the validation that comes before them."""
        self._wait(control)
        self._enter_validation(control)

    def _wait(self, control: Any) -> None:
        # What the Trainer logs, validates and saves comes before it asks for the next batches. To wait for a
        # GPU or a disk is not to wait for data.
        if control.should_log or control.should_evaluate or control.should_save:
            self._training.pause()
        else:
            self._training.wait()

    def on_epoch_end(self, _args: Any, _state: Any, control: Any, **_: object) -> None:
        """End the span of the epoch. The Trainer validates after it."""
        self._leave_evaluation()
        self._training.leave()
        self._enter_validation(control)

    def _enter_validation(self, control: Any) -> None:
        """Begin a span if the Trainer is about to validate; nothing else says so before the first batch."""
        if control.should_evaluate:
            self._training.enter("validation")

    def on_prediction_step(self, *_: object, **__: object) -> None:
        """Begin a span with the first batch of an evaluation that the Trainer was not expected to make."""
        if self._training.innermost not in _EVALUATIONS:
            self._training.enter("validation" if self._training.innermost else "evaluation")

    def on_evaluate(self, _args: Any, _state: Any, control: Any, **_: object) -> None:
        """End it."""
        self._leave_evaluation()
        self._wait(control)

    def on_predict(self, *_: object, **__: object) -> None:
        """End it."""
        self._leave_evaluation()

    def _leave_evaluation(self) -> None:
        if self._training.innermost in _EVALUATIONS:
            self._training.leave()

    def on_log(self, _args: Any, _state: Any, control: Any, logs: Mapping[str, object], **_: object) -> None:
        """Record the values, which the Trainer has read from the GPU, and wait for the next batches."""
        self._training.record(logs)
        self._wait(control)

    def on_save(self, _args: Any, _state: Any, control: Any, **_: object) -> None:
        """Wait for the next batches."""
        self._wait(control)

    def on_train_end(self, *_: object, **__: object) -> None:
        """End what is left."""
        self._training.end()
