"""Writes what a training gave: a PEFT folder, with the GGUF, the io.yaml and a card beside the weights."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alora_cpp.convert import convert_adapter
from alora_cpp.evaluation import evaluate
from alora_cpp.model import Model
from alora_cpp.train.adapter_trainer import AdapterTrainer
from alora_cpp.train.card import write_card
from alora_cpp.train.checkpoints import UnfinishedTraining
from alora_cpp.train.training import TrainingReport

if TYPE_CHECKING:
    from alora_cpp.train.training import Plan

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def write_result(
    plan: Plan, trainer: AdapterTrainer, unfinished: UnfinishedTraining, out: Path, about: dict[str, Any]
) -> TrainingReport:
    """Writes the adapter that was kept, measures it, and puts the whole folder in its place.

    Args:
        plan: What was trained.
        trainer: The trainer, with the best adapter loaded and measured.
        unfinished: Where the folder is made.
        out: Where it goes.
        about: What is trained, as plain values.

    Raises:
        ConversionError: The adapter cannot be converted.
        OSError: It cannot be written.
    """
    folder = unfinished.folder / "result"
    shutil.rmtree(folder, ignore_errors=True)
    _save(trainer, folder)
    (folder / "io.yaml").write_text(plan.io_yaml, encoding="utf-8")
    name = plan.options.name
    file = convert_adapter(
        folder,
        folder / f"{name}.gguf",
        base=plan.base.files,
        name=name,
        invocation=plan.question.invocation if plan.question.is_alora else None,
    )
    figures, measured_with = _measure(plan, trainer, file)
    state = trainer.state
    report = TrainingReport(
        folder=out,
        gguf=out / file.name,
        n_examples=len(plan.examples),
        n_validation=len(plan.validation),
        n_steps=state.max_steps,
        best_step=state.best_global_step or state.max_steps,
        validation_loss=trainer.measured["eval_loss"],
        figures=figures,
        measured_with=measured_with,
        over_cache=trainer.reads_over_cache,
    )
    write_card(folder / "README.md", plan, report, about)
    unfinished.become(folder, out)
    return report


def _save(trainer: AdapterTrainer, folder: Path) -> None:
    trainer.save_model(str(folder))
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty card
    path = folder / _CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    # A set, to PEFT: its order changes from run to run.
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    # Written for the owner's eyes alone, unlike all other files.
    (folder / _WEIGHTS).chmod(stat.S_IMODE(path.stat().st_mode))


def _measure(plan: Plan, trainer: AdapterTrainer, file: Path) -> tuple[dict[str, float], str]:
    """Through the engine, where there is a GGUF for it to run on; an ordinary LoRA is no intrinsic there."""
    if plan.base.gguf is None or not plan.question.is_alora:
        return {"exact": trainer.measured["eval_exact"]}, "PEFT"
    with Model(plan.base.gguf) as model:
        intrinsic = model.load_intrinsic(file, name=plan.options.name)
        longest = max(one.length for one in (*plan.tokenized, *plan.tokenized_validation))
        (evaluation,) = evaluate(model, {intrinsic.name: plan.validation}, n_ctx=_cells(model, longest)).values()
    figures = {} if evaluation.overall is None else evaluation.overall.figures
    return {figure: found.value for figure, found in figures.items()}, "the engine"


def _cells(model: Model, longest: int) -> int:
    """Room for a conversation and the answers that are weighed after it."""
    return min(max(2 * longest, 1024), max(model.n_ctx_train, longest))
