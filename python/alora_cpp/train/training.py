"""From labelled conversations to an adapter: everything is checked first, then trained, then written at one stroke."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alora_cpp.errors import Cancelled, TrainingError
from alora_cpp.file_digest import digest_of
from alora_cpp.intrinsic import listed_answers
from alora_cpp.io import parse_io_yaml
from alora_cpp.labelled_data import LabelledExample, read_labelled_data
from alora_cpp.model import Model
from alora_cpp.train.checkpoints import UnfinishedTraining
from alora_cpp.train.examples import TokenizedExample, split_off, tokenize_examples
from alora_cpp.train.invocation import Question, choose_invocation
from alora_cpp.train.io_description import describe_io
from alora_cpp.train.options import TrainingOptions

if TYPE_CHECKING:
    from alora_cpp.train.adapter_trainer import Step
    from alora_cpp.train.base import Base

_NEEDED = ("torch", "transformers", "peft", "accelerate", "safetensors")


@dataclass(frozen=True)
class TrainingReport:
    """What became of a training.

    Attributes:
        folder: The PEFT folder: weights, configuration, `io.yaml`, README.md and the GGUF.
        gguf: The adapter as GGUF.
        n_examples: Examples that were trained on.
        n_validation: Examples that were measured on.
        n_steps: Steps in all.
        best_step: The step whose adapter was kept.
        validation_loss: Its loss on the validation examples, in nats a token.
        figures: What was measured of it, by name.
        measured_with: `the engine` or `PEFT`.
        over_cache: Whether the base read the conversations on its own, as it does at run time; else whole texts were
            trained on.
    """

    folder: Path
    gguf: Path
    n_examples: int
    n_validation: int
    n_steps: int
    best_step: int
    validation_loss: float
    figures: dict[str, float]
    measured_with: str
    over_cache: bool


def train_adapter(
    base: str,
    data: Sequence[str],
    out: Path,
    options: TrainingOptions,
    *,
    gguf: Path | None = None,
    validation: Sequence[str] = (),
    io_yaml: Path | None = None,
    resume: bool = False,
    progress: Callable[[Step], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainingReport:
    """Trains an adapter.

    Args:
        base: `bundled`, a GGUF file, a Hugging Face folder, the name of one on the hub, or `REPO:QUANTIZATION` for a
            GGUF there.
        data: Files of labelled conversations; `-` is standard input.
        out: The folder to write. It appears only when it is complete; until then there is `OUT.unfinished`.
        options: How to train.
        gguf: The GGUF that the adapter will run on, where the base is a Hugging Face folder or name.
        validation: Files to measure on; without any, a share of the data.
        io_yaml: How the intrinsic is asked and answers; without it, one is made from the answers.
        resume: Whether to go on with an unfinished training of the same.
        progress: Told after each step and each measurement.
        should_stop: Asked after each step; the training then ends with a checkpoint.

    Returns:
        What became of it.

    Raises:
        DataError: Examples cannot be learned from.
        AdapterError: The `io.yaml` given cannot be understood.
        ArgumentError: The base's chat template is not valid.
        TrainingError: The base or a setting does not do, or a training cannot be gone on with.
        Cancelled: `should_stop` said so.
        ConversionError: The result cannot be converted.
        OSError: A file cannot be read or written.
    """
    expect_extra()
    examples = read_labelled_data(data)
    measured = read_labelled_data(validation) if validation else []
    from alora_cpp.train.quiet import quiet_libraries

    with quiet_libraries():
        plan = _plan(base, examples, measured, options, gguf, io_yaml)
        about = _about(plan, {"data": data, "validation": validation})
        with UnfinishedTraining(out, about, resume=resume) as unfinished:
            return _train(plan, unfinished, out, about, progress, should_stop)


def expect_extra() -> None:
    """Checks that what training needs is installed.

    Raises:
        TrainingError: It is not.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise TrainingError(
            f"training needs {', '.join(missing)}, which this Python does not have: pip install 'alora_cpp[train]'"
        )


@dataclass(frozen=True)
class Plan:
    """A training, all of it checked.

    Attributes:
        base: The base.
        options: How to train.
        question: How the intrinsic is asked.
        io_yaml: The text of its `io.yaml`.
        examples: To learn from.
        validation: To measure on.
        tokenized: The examples as tokens.
        tokenized_validation: The validation examples as tokens.
    """

    base: Base
    options: TrainingOptions
    question: Question
    io_yaml: str
    examples: Sequence[LabelledExample]
    validation: Sequence[LabelledExample]
    tokenized: Sequence[TokenizedExample]
    tokenized_validation: Sequence[TokenizedExample]


def _plan(
    base_name: str,
    examples: list[LabelledExample],
    validation: list[LabelledExample],
    options: TrainingOptions,
    gguf: Path | None,
    io_path: Path | None,
) -> Plan:
    from alora_cpp.train.base import open_base

    base = open_base(base_name, gguf=gguf)
    if len({example.completion for example in examples}) == 1 and len(examples) > 1:
        raise TrainingError(
            f"all {len(examples)} examples have the completion {examples[0].completion!r:.80}: there is nothing to"
            " learn; give examples of every answer"
        )
    text = describe_io(options.name, [*examples, *validation], base.vocabulary)
    if io_path is not None:
        text = io_path.read_text(encoding="utf-8")
    config = parse_io_yaml(text, source=str(io_path or "io.yaml"))
    question = choose_invocation(options, config, base.vocabulary, base.template)
    if not validation:
        examples, validation = split_off(examples, share=options.validation_share, seed=options.seed)

    def tokenized(some: Sequence[LabelledExample]) -> list[TokenizedExample]:
        return tokenize_examples(some, question, base.vocabulary, base.template, max_length=_max_length(base, options))

    # Together, so that what is wrong with either is told at once.
    found = tokenized([*examples, *validation])
    if base.folder is not None and base.gguf is not None:
        _expect_same_tokens(base, options, config_of=question, examples=[*examples, *validation], found=found)
    return Plan(base, options, question, text, examples, validation, found[: len(examples)], found[len(examples) :])


def _max_length(base: Base, options: TrainingOptions) -> int:
    most = base.n_ctx_train or options.max_length or 0
    if options.max_length is not None and options.max_length > most:
        raise TrainingError(
            f"max_length is {options.max_length}, but {base.vocabulary.path} was trained for {most} positions; give"
            " less, or leave it out"
        )
    return options.max_length or most


def _expect_same_tokens(
    base: Base,
    options: TrainingOptions,
    *,
    config_of: Question,
    examples: Sequence[LabelledExample],
    found: Sequence[TokenizedExample],
) -> None:
    from alora_cpp.train.base import expect_same_tokens

    assert base.gguf is not None
    with Model(base.gguf, vocabulary_only=True) as model:
        question = choose_invocation(options, config_of.config, model, model.template)
        theirs = tokenize_examples(examples, question, model, model.template, max_length=2**31)
        compared = [("the invocation", config_of.invocation, question.invocation)]
        compared += [
            (example.where, (*one.prompt, *one.answer), (*other.prompt, *other.answer))
            for example, one, other in zip(examples, found, theirs, strict=True)
        ]
        expect_same_tokens(base, model, compared)


def _about(plan: Plan, sources: dict[str, Sequence[str]]) -> dict[str, Any]:
    """What is trained, for the card, and to tell this training from others."""
    examples = {"data": plan.examples, "validation": plan.validation}
    files = {what: {name: _digest(name, examples[what]) for name in names} for what, names in sources.items() if names}
    identity = plan.base.vocabulary.fingerprint if isinstance(plan.base.vocabulary, Model) else None
    return {
        "base": plan.base.name,
        "base_fingerprint": identity,
        "gguf": None if plan.base.gguf is None else plan.base.gguf.name,
        "settings": json.loads(json.dumps(asdict(plan.options))),
        "io_yaml": plan.io_yaml,
        "files": files,
    }


def _digest(name: str, examples: Sequence[LabelledExample]) -> str:
    """SHA-256 of a file; of standard input, which is read already, of what was in it."""
    if name != "-":
        return digest_of(Path(name)).sha256
    return hashlib.sha256(json.dumps([asdict(one) for one in examples]).encode()).hexdigest()


def _train(
    plan: Plan,
    unfinished: UnfinishedTraining,
    out: Path,
    about: dict[str, Any],
    progress: Callable[[Step], object] | None,
    should_stop: Callable[[], bool] | None,
) -> TrainingReport:
    from alora_cpp.train.adapter_trainer import AdapterTrainer
    from alora_cpp.train.new_adapter import add_adapter
    from alora_cpp.train.result import write_result

    model = add_adapter(plan.base, plan.options, plan.question.adapted_invocation)
    trainer = AdapterTrainer(
        model,
        plan.tokenized,
        plan.tokenized_validation,
        plan.options,
        unfinished.folder,
        listed=[plan.base.vocabulary.tokenize(answer.text) for answer in listed_answers(plan.question.config)],
        progress=progress,
        should_stop=should_stop,
    )
    trainer.train(resume_from_checkpoint=str(unfinished.checkpoint) if unfinished.checkpoint else None)
    state = trainer.state
    if state.global_step < state.max_steps:
        raise Cancelled(
            f"stopped after step {state.global_step} of {state.max_steps}; {unfinished.folder} has a checkpoint: go on"
            " with the same command and --resume"
        )
    trainer.evaluate()
    return write_result(plan, trainer, unfinished, out, about)
