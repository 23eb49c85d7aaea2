"""PerformanceCallback in the real trainers of Lightning, Keras and Hugging Face, with tiny models."""

from __future__ import annotations

import copy
import itertools
import logging
import os
import pickle
import runpy
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.collectors import FakeCollector

from perfmon_widgets import PerformanceMonitor

os.environ["KERAS_BACKEND"] = "torch"
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
with warnings.catch_warnings():  # those of the frameworks at their import
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    lightning = pytest.importorskip("lightning.pytorch")
    pytorch_lightning = pytest.importorskip("pytorch_lightning")
    keras = pytest.importorskip("keras")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    import perfmon_widgets.integrations.keras
    import perfmon_widgets.integrations.lightning
    import perfmon_widgets.integrations.transformers

# The frameworks warn of few loader workers, of each other's old functions and of missing accelerators. A
# warning that this package causes names one of its files.
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error:::perfmon_widgets"),
]

LightningCallback = perfmon_widgets.integrations.lightning.PerformanceCallback
KerasCallback = perfmon_widgets.integrations.keras.PerformanceCallback
TransformersCallback = perfmon_widgets.integrations.transformers.PerformanceCallback


class BoomError(Exception):
    """Raised in the middle of a training."""


@pytest.fixture(autouse=True)
def quiet(folder: Path) -> Iterator[None]:
    """The frameworks write files into the working directory, and log what they do."""
    logging.disable(logging.INFO)
    torch.manual_seed(1)
    torch.set_num_threads(1)  # for these models more only compete
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def monitor() -> Iterator[PerformanceMonitor]:
    with PerformanceMonitor([FakeCollector("a_percent")], interval=0.02, window=600) as monitor:
        yield monitor


@pytest.fixture
def still() -> PerformanceMonitor:
    """A monitor that takes no samples by itself."""
    return PerformanceMonitor([FakeCollector("a_percent")])


def names(monitor: PerformanceMonitor) -> list[str]:
    return monitor.spans["name"].tolist()


def spans_of(monitor: PerformanceMonitor) -> list[tuple[str, bool]]:
    """The name of each span, and whether an exception ended it."""
    return list(zip(names(monitor), monitor.spans["raised"], strict=True))


def assert_ended(monitor: PerformanceMonitor, *, raised: bool = False) -> None:
    spans = monitor.spans
    assert len(spans)
    assert spans["end"].notna().all()
    assert spans["raised"].tolist()[-1] is raised


def assert_inside(monitor: PerformanceMonitor, inner: int, outer: int) -> None:
    spans = monitor.spans
    assert spans["start"][outer] <= spans["start"][inner]
    assert spans["end"][inner] <= spans["end"][outer]


def means(monitor: PerformanceMonitor) -> dict[str, float]:
    columns = ["steps_per_second", "samples_per_second", "waiting_percent"]
    return dict(monitor.history[columns].mean())


def recorded(monitor: PerformanceMonitor, column: str) -> list[float]:
    return [round(value, 5) for value in monitor.history[column].dropna()]


def synchronisations(monkeypatch: pytest.MonkeyPatch, train: Callable[[], object]) -> int:
    """How often training reads a number of a tensor on the main thread, where it would wait for a GPU."""
    reads = 0
    main = threading.main_thread()

    def counted(read: Any) -> Any:
        def counting(*arguments: Any, **more: Any) -> Any:
            nonlocal reads
            reads += threading.current_thread() is main
            return read(*arguments, **more)

        return counting

    with monkeypatch.context() as patched:
        for name in ("item", "cpu", "numpy", "tolist", "__float__", "__int__", "__bool__"):
            patched.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
        train()
    return reads


# -- Lightning ---------------------------------------------------------------------------------------------


def module(parent: Any = lightning, *, log: bool = True, seconds: float = 0.0, raises: Any = None) -> Any:
    """A model with one layer, whose steps take some time, and which keeps the losses that it logs."""

    class Model(parent.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)
            self.losses: list[float] = []
            self.validations: list[float] = []

        def training_step(self, batch: Any, number: int) -> Any:
            if raises is not None and self.current_epoch == 1 and number == 2:
                raise raises
            time.sleep(seconds)
            loss = self.layer(batch[0]).pow(2).mean()
            self.losses.append(round(loss.item(), 5))
            if log:
                self.log("train/loss", loss)
            return loss

        def validation_step(self, batch: Any, number: int) -> None:
            self.validations.append(number)
            self.log("val acc", torch.tensor(0.25 * len(self.validations)))

        def test_step(self, batch: Any, number: int) -> None:
            self.log("test_acc", torch.tensor(0.75))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    return Model()


class Rows(torch.utils.data.Dataset):  # type: ignore[misc]
    """Random rows, each of which takes some time to load."""

    def __init__(self, count: int = 32, seconds: float = 0.0) -> None:
        self.rows, self.seconds = torch.randn(count, 3), seconds

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        time.sleep(self.seconds)
        return (self.rows[number],)


def loader(count: int = 32, seconds: float = 0.0) -> Any:
    return torch.utils.data.DataLoader(Rows(count, seconds), batch_size=4)


def trainer(*callbacks: Any, parent: Any = lightning, epochs: int = 2, **more: Any) -> Any:
    settings = {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0, **more}
    return parent.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), enable_progress_bar=False,
        enable_model_summary=False, **settings,
    )  # fmt: skip


def test_lightning_epochs_and_validations_are_spans(still):
    callback = LightningCallback(still)
    trainer(callback, num_sanity_val_steps=1, val_check_interval=0.5).fit(module(), loader(), loader(8))
    epoch = ["validation", "validation"]
    assert names(still) == ["sanity check", "epoch 0", *epoch, "epoch 1", *epoch]
    assert_ended(still)
    for inner, outer in ((2, 1), (3, 1), (5, 4), (6, 4)):
        assert_inside(still, inner, outer)
    assert not still._sample_subscribers._subscribers


def without_repetition(values: list[float]) -> list[float]:
    return [value for value, _ in itertools.groupby(values)]


class SampleAfterEachStep(lightning.Callback):  # type: ignore[misc]
    def __init__(self, monitor: PerformanceMonitor) -> None:
        self.monitor = monitor

    def on_train_batch_end(self, *_: object) -> None:
        self.monitor.sample()

    on_validation_end = on_train_epoch_end = on_train_batch_end


def test_lightning_logged_values_are_in_the_rows_of_their_time(still):
    still.record(**{"train/loss": 0.0, "val_acc": 0.0})  # so that the first row has the columns
    still.sample()
    still.sample()
    model = module()
    trainer(LightningCallback(still), SampleAfterEachStep(still)).fit(model, loader(), loader(4))
    assert len(model.losses) == 16
    # Lightning makes new tensors of the same values at the end of a validation and of an epoch.
    assert without_repetition(recorded(still, "train/loss")) == [0.0, *model.losses]
    # A validation is not repeated with each step that follows.
    validations = recorded(still, "val_acc")
    assert without_repetition(validations) == [0.0, 0.25, 0.5]
    assert len(validations) <= 5
    assert still.errors == {}


def test_lightning_a_slow_loader_is_waited_for(monitor):
    trainer(LightningCallback(monitor), epochs=1).fit(module(), loader(32, seconds=0.01))
    slow = means(monitor)
    assert slow["waiting_percent"] > 70
    assert slow["samples_per_second"] == pytest.approx(4 * slow["steps_per_second"])


def test_lightning_slow_steps_validations_and_checkpoints_are_not_waiting(monitor):
    class SlowCheckpoint(lightning.callbacks.ModelCheckpoint):  # type: ignore[misc]
        def _save_checkpoint(self, trainer: Any, path: str) -> None:
            super()._save_checkpoint(trainer, path)
            time.sleep(0.1)

    callbacks = LightningCallback(monitor), SlowCheckpoint(every_n_train_steps=2, save_top_k=-1)
    slow = trainer(*callbacks, epochs=1, enable_checkpointing=True, val_check_interval=0.5)
    slow.fit(module(seconds=0.02), loader(), loader(8, seconds=0.01))
    assert means(monitor)["waiting_percent"] < 30


def test_lightning_with_accumulated_gradients_a_step_is_a_batch(still):
    model = module()
    started = time.monotonic()
    trainer(LightningCallback(still), epochs=1, accumulate_grad_batches=4).fit(model, loader())
    seconds = time.monotonic() - started
    row = still.sample().values
    assert row["samples_per_second"] == pytest.approx(4 * row["steps_per_second"])
    assert row["steps_per_second"] > 8 / seconds


def test_lightning_an_exception_ends_the_spans(still):
    with pytest.raises(BoomError):
        trainer(LightningCallback(still)).fit(module(raises=BoomError()), loader())
    assert names(still) == ["epoch 0", "epoch 1"]
    assert_ended(still, raised=True)


def test_lightning_an_interrupt_ends_the_spans(still):
    with pytest.raises(SystemExit):
        trainer(LightningCallback(still)).fit(module(raises=KeyboardInterrupt()), loader())
    assert_ended(still, raised=True)


def test_lightning_a_second_fit_and_a_test_by_itself(still):
    callback = LightningCallback(still)
    for _ in range(2):
        model = module()
        trainer(callback, epochs=1).fit(model, loader())
    one = trainer(callback)
    one.validate(model, loader(4), verbose=False)
    one.test(model, loader(4), verbose=False)
    assert names(still) == ["epoch 0", "epoch 0", "validation", "test"]
    assert_ended(still)
    still.sample()
    assert recorded(still, "test_acc") == [0.75]


def test_lightning_never_waits_for_the_device(monkeypatch, still):
    def fit(*callbacks: Any) -> None:
        trainer(*callbacks).fit(module(), loader(), loader(4))

    without = synchronisations(monkeypatch, fit)
    assert synchronisations(monkeypatch, lambda: fit(LightningCallback(still))) == without


def test_lightning_a_value_in_the_progress_bar_is_read_no_more_often_by_lightning_itself(still):
    """Lightning reads it after each batch. That time is not waiting for data."""
    waited: list[bool] = []

    class Model(type(module())):  # type: ignore[misc]
        def training_step(self, batch: Any, number: int) -> Any:
            loss = self.layer(batch[0]).pow(2).mean()
            self.log("loss", loss, prog_bar=True)
            return loss

    callback = LightningCallback(still)
    wait = callback._training.wait
    callback._training.wait = lambda: (waited.append("loss" in callback._logged), wait())
    trainer(callback, epochs=1).fit(Model(), loader())
    assert waited == [True] * 8


def test_the_callback_of_one_name_of_lightning_works_in_the_trainer_of_the_other(still):
    other = module(pytorch_lightning)
    trainer(LightningCallback(still), parent=pytorch_lightning).fit(other, loader(), loader(4))
    assert names(still) == ["epoch 0", "validation", "epoch 1", "validation"]
    assert_ended(still)


@pytest.mark.parametrize(
    ("loaded", "expected"),
    [
        ({}, "lightning.pytorch"),
        ({"lightning": None, "lightning.pytorch": None}, "pytorch_lightning"),
        ({"lightning.pytorch": False}, "pytorch_lightning"),
    ],
    ids=["both", "only the other is installed", "only the other is imported"],
)
def test_the_lightning_that_is_imported_already_is_used(monkeypatch, loaded, expected):
    for name, module_or_none in loaded.items():
        if module_or_none is None:
            monkeypatch.setitem(sys.modules, name, None)
        else:
            monkeypatch.delitem(sys.modules, name)
    found = runpy.run_path(perfmon_widgets.integrations.lightning.__file__)
    assert found["PerformanceCallback"].__mro__[1].__module__.startswith(f"{expected}.")


# -- Keras -------------------------------------------------------------------------------------------------


def network(**more: Any) -> Any:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"], **more)
    return model


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of 4, each of which takes some time to load."""

    def __init__(self, count: int = 8, seconds: float = 0.0) -> None:
        super().__init__()
        self.count, self.seconds = count, seconds

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Any:
        time.sleep(self.seconds)
        return np.ones((4, 3), "float32"), np.full((4, 1), number, "float32")


def test_keras_epochs_and_validations_are_spans(still):
    callback = KerasCallback(still)
    model = network()
    model.fit(
        Batches(), validation_data=Batches(2), epochs=3, validation_freq=2, callbacks=[callback], verbose=0
    )
    model.fit(Batches(), epochs=1, callbacks=[callback], verbose=0)
    assert names(still) == ["epoch 1", "epoch 2", "validation", "epoch 3", "epoch 1"]
    assert_inside(still, 2, 1)
    model.evaluate(Batches(), callbacks=[callback], verbose=0)
    assert names(still)[5:] == ["evaluation"]
    assert_ended(still)
    assert not still._sample_subscribers._subscribers


def test_keras_values_are_recorded_under_their_names(still):
    history = []
    callback = KerasCallback(still)
    model = network()
    for _ in range(2):
        fitted = model.fit(Batches(), validation_data=Batches(2), callbacks=[callback], verbose=0)
        history.append(fitted.history)
        still.sample()
    evaluated = model.evaluate(Batches(), callbacks=[callback], verbose=0, return_dict=True)
    still.sample()
    for name in ("loss", "mae", "val_loss", "val_mae"):
        assert recorded(still, name) == [round(each[name][0], 5) for each in history]
    for name, value in evaluated.items():
        assert recorded(still, f"evaluation/{name}") == [round(value, 5)]
    assert still.errors == {}


def test_keras_losses_are_there_during_an_epoch(monitor):
    network().fit(Batches(20, seconds=0.01), callbacks=[KerasCallback(monitor)], verbose=0)
    assert len(recorded(monitor, "loss")) > 3


def test_keras_a_slow_loader_is_waited_for(monitor):
    callback = KerasCallback(monitor, batch_size=4)
    network().fit(Batches(seconds=0.04), callbacks=[callback], verbose=0)
    slow = means(monitor)
    assert slow["waiting_percent"] > 60
    assert slow["samples_per_second"] == pytest.approx(4 * slow["steps_per_second"])


def test_keras_slow_steps_are_not_waiting_and_without_batch_size_samples_are_not_known(monitor):
    class Slow(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            time.sleep(0.03)
            return inputs

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1), Slow()])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(Batches(), validation_data=Batches(4, 0.03), callbacks=[KerasCallback(monitor)], verbose=0)
    assert means(monitor)["waiting_percent"] < 30
    history = monitor.history  # before the first batch, none is 0 samples
    assert history.loc[history["steps_per_second"] > 0, "samples_per_second"].isna().all()


def test_keras_never_waits_for_the_device(monkeypatch, still):
    def fit(*callbacks: Any) -> None:
        model.fit(Batches(), validation_data=Batches(2), epochs=2, callbacks=list(callbacks), verbose=0)

    model = network()
    fit()  # builds it
    without = synchronisations(monkeypatch, fit)
    assert synchronisations(monkeypatch, lambda: fit(KerasCallback(still))) == without


class Boom(keras.callbacks.Callback):  # type: ignore[misc]
    async_safe = True

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 3:
            raise BoomError


def test_keras_the_next_sample_ends_the_spans_of_a_training_that_has_raised(still):
    callback = KerasCallback(still)
    model = network()
    with pytest.raises(BoomError) as kept:
        model.fit(Batches(), callbacks=[callback, Boom()], verbose=0)
    assert still.spans["end"].isna().all()
    still.sample()
    assert_ended(still, raised=True)
    del kept
    model.fit(Batches(), callbacks=[callback], verbose=0)
    assert_ended(still)
    assert names(still) == ["epoch 1", "epoch 1"]


def test_keras_a_loop_of_the_users_own_is_measured_to_its_end(still):
    model = network()
    callbacks = keras.callbacks.CallbackList([KerasCallback(still, batch_size=4)], model=model)
    batches = Batches()
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for batch in range(len(batches)):
            callbacks.on_train_batch_begin(batch)
            loss = model.train_on_batch(*batches[batch], return_dict=True)
            callbacks.on_train_batch_end(batch, loss)
            row = still.sample()
        assert row.values["steps_per_second"] > 0
        assert 0 <= row.values["waiting_percent"] <= 100
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    assert spans_of(still) == [("epoch 1", False), ("epoch 2", False)]
    assert_ended(still)


# -- Hugging Face ------------------------------------------------------------------------------------------


class Texts(torch.utils.data.Dataset):  # type: ignore[misc]
    def __init__(self, count: int = 32, seconds: float = 0.0) -> None:
        self.count, self.seconds = count, seconds

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Any:
        time.sleep(self.seconds)
        tokens = torch.arange(8) % (2 + number % 3)
        return {"input_ids": tokens, "labels": tokens}


def gpt2(**more: Any) -> Any:
    settings = {"vocab_size": 8, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 1}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**settings, bos_token_id=0, eos_token_id=0, loss_type="ForCausalLM")
    )


def hugging_face(*callbacks: Any, data: Any = None, model: Any = None, **more: Any) -> Any:
    settings = {
        "output_dir": "out", "per_device_train_batch_size": 4, "num_train_epochs": 2, "save_strategy": "no",
        "report_to": [], "use_cpu": True, "disable_tqdm": True, "logging_steps": 2, "seed": 1, **more,
    }  # fmt: skip
    made = transformers.Trainer(
        model or gpt2(),
        transformers.TrainingArguments(**settings),
        train_dataset=data or Texts(),
        eval_dataset=Texts(8),
        callbacks=list(callbacks),
    )
    made.remove_callback(transformers.PrinterCallback)
    return made


def test_hugging_face_epochs_and_validations_are_spans(still):
    callback = TransformersCallback(still)
    made = hugging_face(callback, eval_strategy="steps", eval_steps=4)
    made.train()
    epoch = ["validation", "validation"]
    assert names(still) == ["epoch 1", *epoch, "epoch 2", *epoch]
    for inner, outer in ((1, 0), (2, 0), (4, 3), (5, 3)):
        assert_inside(still, inner, outer)
    made.evaluate()
    made.predict(Texts(8))
    assert names(still)[6:] == ["evaluation", "evaluation"]
    assert_ended(still)
    assert not still._sample_subscribers._subscribers


def test_hugging_face_a_validation_after_each_epoch_and_before_the_first(still):
    made = hugging_face(TransformersCallback(still), eval_strategy="epoch", eval_on_start=True)
    made.train()
    # The Trainer validates when the epoch has ended.
    assert names(still) == ["evaluation", "epoch 1", "validation", "epoch 2", "validation"]
    assert_ended(still)


def test_hugging_face_a_validation_that_does_not_come_leaves_no_span(still):
    class Not(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_evaluate = False

    made = hugging_face(TransformersCallback(still), Not(), eval_strategy="steps", eval_steps=4)
    made.train()
    assert set(names(still)) == {"epoch 1", "validation", "epoch 2"}
    assert_ended(still)


def test_hugging_face_values_are_recorded_under_their_names(still):
    class Sample(transformers.TrainerCallback):  # type: ignore[misc]
        def on_log(self, *_: Any, **__: Any) -> None:
            still.sample()

    made = hugging_face(TransformersCallback(still), Sample(), eval_strategy="epoch")
    still.record(loss=0.0, eval_loss=0.0, learning_rate=0.0, epoch=0.0, train_loss=0.0)
    still.sample()
    made.train()
    for name in ("loss", "eval_loss", "learning_rate", "epoch", "train_loss"):
        logged = [round(each[name], 5) for each in made.state.log_history if name in each]
        assert recorded(still, name) == [0.0, *logged] if name != "epoch" else logged
        assert len(logged) > 0
    assert still.errors == {}


def test_hugging_face_a_slow_loader_is_waited_for(monitor):
    data = Texts(64, seconds=0.01)
    callback = TransformersCallback(monitor)
    hugging_face(callback, data=data, num_train_epochs=1, gradient_accumulation_steps=2).train()
    slow = means(monitor)
    assert slow["waiting_percent"] > 50
    assert slow["samples_per_second"] == pytest.approx(8 * slow["steps_per_second"])  # two batches of 4


def test_hugging_face_slow_steps_logs_and_checkpoints_are_not_waiting(monitor):
    class Slow(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            time.sleep(0.02)

    made = hugging_face(TransformersCallback(monitor), Slow(), save_strategy="steps", save_steps=2)
    save = made._save_checkpoint
    made._save_checkpoint = lambda *arguments, **more: (time.sleep(0.1), save(*arguments, **more))
    made.train()
    assert means(monitor)["waiting_percent"] < 30


def test_hugging_face_never_waits_for_the_device(monkeypatch, still):
    def train(*callbacks: Any) -> None:
        hugging_face(*callbacks, eval_strategy="epoch").train()

    without = synchronisations(monkeypatch, train)
    assert synchronisations(monkeypatch, lambda: train(TransformersCallback(still))) == without


def test_hugging_face_the_next_sample_ends_the_spans_of_a_training_that_has_raised(still):
    class Raises(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 10:
                raise BoomError

    callback = TransformersCallback(still)
    with pytest.raises(BoomError):
        hugging_face(callback, Raises()).train()
    still.sample()
    assert names(still) == ["epoch 1", "epoch 2"]
    assert_ended(still, raised=True)
    hugging_face(callback, num_train_epochs=1).train()
    assert names(still) == ["epoch 1", "epoch 2", "epoch 1"]
    assert_ended(still)


# -- all of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LightningCallback, KerasCallback, TransformersCallback])
def test_launchers_can_copy_a_callback_into_another_process(kind, still):
    callback = kind(still)
    callback._training.enter("epoch 1")
    other = pickle.loads(pickle.dumps(callback))
    assert other._training.innermost == ""
    assert copy.deepcopy(callback)._training._given is still
    callback._training.end()
