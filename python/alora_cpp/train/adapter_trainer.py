"""Transformers' Trainer, taught to train an adapter on answers alone.

What a step draws at random depends on the seed and the step's number only, not on what was drawn before: so a training
that was interrupted goes on to the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from alora_cpp.train.answer_logits import answer_logits, has_plain_cache, token_weights
from alora_cpp.train.batches import Batch, collate, draw_batches
from alora_cpp.train.examples import TokenizedExample
from alora_cpp.train.options import TrainingOptions
from alora_cpp.train.written_answers import WrittenAnswers

_WARM_UP = 0.05
_CHECKPOINTS = 10
_LARGEST_SEED = 2**63


@dataclass(frozen=True)
class Step:
    """How far a training is.

    Attributes:
        step: Steps done.
        n_steps: Steps in all.
        loss: Of the last step, in nats a token.
        validation_loss: As last measured, or None.
        exact: The share of the validation answers that the model would write itself, as last measured, or None.
    """

    step: int
    n_steps: int
    loss: float
    validation_loss: float | None = None
    exact: float | None = None


class AdapterTrainer(Trainer):
    """Trains an adapter, and keeps the checkpoint with the least loss on the validation examples.

    Attributes:
        reads_over_cache: Whether the base reads up to the activation on its own; else whole texts are read.
        measured: What was measured last: `eval_loss`, and `eval_exact`, the share of answers it would write.
    """

    def __init__(
        self,
        model: PeftModel,
        examples: Sequence[TokenizedExample],
        validation: Sequence[TokenizedExample],
        options: TrainingOptions,
        folder: Path,
        *,
        listed: Sequence[Sequence[int]] = (),
        progress: Callable[[Step], object] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Prepares a training.

        Args:
            model: The base with a new adapter.
            examples: To learn from.
            validation: To measure on.
            options: How to train.
            folder: Where checkpoints go.
            listed: The tokens of every answer there may be, where these are listed.
            progress: Told after each step and each measurement.
            should_stop: Asked after each step; the training then ends, with a checkpoint.
        """
        self._adapted = model
        self._examples = examples
        self._validation = validation
        self._batches = draw_batches(
            [one.length for one in examples], batch_size=options.batch_size, epochs=options.epochs, seed=options.seed
        )
        self._written = WrittenAnswers(listed)
        self._told = progress or (lambda step: None)
        self._last: Step | None = None
        self.measured: dict[str, float] = {}
        self.reads_over_cache = options.kind == "alora" and has_plain_cache(model.get_base_model())
        super().__init__(
            model=model,
            args=_arguments(options, folder, len(self._batches)),
            eval_dataset=validation,
            callbacks=[_Stop(should_stop)] if should_stop else None,
        )
        # Progress is told by us.
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False

    def get_train_dataloader(self) -> DataLoader[TokenizedExample]:
        """The batches of all epochs in a row: for `Trainer`, one epoch, of which a resumed training skips a part."""
        return DataLoader(self._examples, batch_sampler=self._batches, collate_fn=collate)

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *more: Any) -> torch.Tensor:
        """Trains on one batch, from a random state that is the step's own."""
        torch.manual_seed((self.args.seed << 32 | self.state.global_step) % _LARGEST_SEED)
        loss: torch.Tensor = super().training_step(model, inputs, *more)
        self._tell(loss=float(loss))
        return loss

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *more: Any, **options: Any) -> torch.Tensor:
        """The mean of the answers' tokens by weight, in nats."""
        logits, targets, weights = self._read(inputs["batch"])
        return _loss(logits, targets, weights) / weights.sum()

    def evaluate(self, *ignored: Any, **also_ignored: Any) -> dict[str, float]:
        """Measures on the validation examples."""
        self._adapted.train(False)
        loss, weight, exact = 0.0, 0.0, 0
        by_length = sorted(self._validation, key=lambda one: one.length)
        for start in range(0, len(by_length), self.args.per_device_train_batch_size):
            batch = collate(by_length[start : start + self.args.per_device_train_batch_size])["batch"]
            with torch.no_grad():
                logits, targets, weights = self._read(batch)
            loss += float(_loss(logits, targets, weights))
            weight += float(weights.sum())
            exact += self._written.count_right(batch, logits, targets)
        metrics = {"eval_loss": loss / weight, "eval_exact": exact / len(by_length)}
        self.measured = metrics
        self.log(metrics)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._tell(validation_loss=metrics["eval_loss"], exact=metrics["eval_exact"])
        return metrics

    def _read(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of all answers' tokens, the tokens that are there, and their weights."""
        batch = batch.to(self.args.device)
        precision = torch.bfloat16 if self.args.bf16 else torch.float16
        mixed = torch.autocast(self.args.device.type, dtype=precision, enabled=self.args.bf16 or self.args.fp16)
        with mixed:
            logits, targets = answer_logits(self._adapted, batch, over_cache=self.reads_over_cache)
        return logits, targets, token_weights(batch)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes the adapter alone. With embeddings in mind, PEFT would look the base up on the hub."""
        self._adapted.save_pretrained(output_dir or self.args.output_dir, save_embedding_layers=False)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted."""
        return 0

    def _tell(self, **known: Any) -> None:
        last = self._last or Step(0, self.state.max_steps, 0.0)
        done = self.state.global_step + ("loss" in known)
        self._last = Step(**{**last.__dict__, **known, "step": done, "n_steps": self.state.max_steps})
        self._told(self._last)


def _loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum by weight, in nats."""
    return (cross_entropy(logits, targets, reduction="none") * weights).sum()


class _Stop(TrainerCallback):
    """Ends a training with a checkpoint when that is asked for."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if state.global_step < state.max_steps and self._should_stop():
            control.should_save = control.should_training_stop = True
        return control


def _arguments(options: TrainingOptions, folder: Path, n_steps: int) -> TrainingArguments:
    every = options.checkpoint_steps or max(1, -(-n_steps // _CHECKPOINTS))
    on_gpu = torch.cuda.is_available()
    brain_floats = on_gpu and torch.cuda.is_bf16_supported()
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=n_steps,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(_WARM_UP * n_steps),
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=options.seed,
        bf16=brain_floats,
        fp16=on_gpu and not brain_floats,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    # One device: the cache is read past the wrapper that would spread a batch over several.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments
