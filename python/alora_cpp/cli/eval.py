"""`alora-cli eval`: measures intrinsics on labelled conversations."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alora_cpp.cli import options, terminal
from alora_cpp.labelled_data import LabelledExample, read_labelled_data
from alora_cpp.whole_file import write_whole

if TYPE_CHECKING:
    from alora_cpp.evaluation import Evaluation

_LISTED = 5


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "eval",
        help="measure intrinsics on labelled conversations",
        description="Measure intrinsics on labelled conversations: how often they are wrong, and how well they know. "
        "Exit code 1 if an example could not be answered; its figures then count the others.",
    )
    parser.add_argument("model", metavar="MODEL", help=options.MODEL_HELP)
    parser.add_argument(
        "--intrinsic", metavar="NAME[,NAME]", required=True, type=options.names, help="which intrinsics to measure"
    )
    parser.add_argument(
        "--data",
        metavar="[NAME=]FILE",
        action="append",
        required=True,
        help="labelled conversations as JSON lines, '-' for stdin: of one intrinsic, or without NAME= of all that have "
        "none of their own (repeatable)",
    )
    options.add_adapter_options(parser)
    options.add_argument_option(parser)
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the figures as JSON to a file, too")
    parser.add_argument(
        "--predictions", metavar="FILE", type=Path, help="write each verdict beside its label, as JSON lines"
    )
    parser.add_argument(
        "--plot",
        metavar="FILE.png",
        type=Path,
        help="draw reliability diagrams and confusion matrices (needs the extra 'eval')",
    )
    options.add_model_options(parser)
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from alora_cpp.evaluation import evaluate

    options.show_log(arguments)
    examples = _read_data(arguments)
    if arguments.plot is not None:
        from alora_cpp.evaluation.plots import check_plottable

        check_plottable(arguments.plot)
    with options.load_model(arguments.model, n_gpu_layers=arguments.gpu_layers) as model:
        options.load_intrinsics(model, arguments.intrinsic, arguments)
        began = time.perf_counter()
        with terminal.Progress("asking") as progress:
            evaluations = evaluate(
                model,
                examples,
                arguments=dict(arguments.argument),
                n_ctx=arguments.ctx_size,
                n_threads=arguments.threads,
                progress=progress.update,
            )
        seconds = time.perf_counter() - began
    _write(evaluations, seconds, arguments)
    return 1 if _tell_failures(evaluations) else 0


def _read_data(arguments: argparse.Namespace) -> dict[str, list[LabelledExample]]:
    """The examples of each intrinsic; a file that serves several is read once.

    Raises:
        DataError: Lines are no examples.
        OSError: A file cannot be read.
    """
    own: dict[str, list[str]] = {name: [] for name in arguments.intrinsic}
    shared: list[str] = []
    for text in arguments.data:
        name, equals, source = text.partition("=")
        if equals and source and name in own:
            own[name].append(source)
        elif equals and not Path(text).exists():
            arguments.refuse(f"--data {text} is for '{name}', which --intrinsic does not name, and no file")
        else:
            shared.append(text)
    sources = {name: given or shared for name, given in own.items()}
    for name, given in sources.items():
        if not given:
            arguments.refuse(f"no data for '{name}'; give --data {name}=FILE, or --data FILE for all")
    read: dict[str, list[LabelledExample]] = {}
    for source in dict.fromkeys(source for given in sources.values() for source in given):
        read[source] = read_labelled_data(source)
    return {name: [example for source in given for example in read[source]] for name, given in sources.items()}


def _write(evaluations: Mapping[str, Evaluation], seconds: float, arguments: argparse.Namespace) -> None:
    plain = {
        "model": arguments.model,
        "seconds": seconds,
        "intrinsics": {name: evaluation.as_dict() for name, evaluation in evaluations.items()},
    }
    as_json = json.dumps(plain, ensure_ascii=False)
    if arguments.out is not None:
        write_whole(arguments.out, as_json + "\n")
    if arguments.predictions is not None:
        write_whole(arguments.predictions, "".join(_predictions(evaluations)))
    if arguments.json:
        print(as_json)
    else:
        from alora_cpp.cli.eval_text import summary

        print(*map(summary, evaluations.values()), sep="\n")
        count = sum(len(evaluation.judged) for evaluation in evaluations.values())
        print(terminal.paint(f"{count} verdicts in {terminal.seconds(seconds)}", terminal.DIM))
    if arguments.plot is not None:
        from alora_cpp.evaluation.plots import draw

        draw(list(evaluations.values()), arguments.plot)


def _predictions(evaluations: Mapping[str, Evaluation]) -> Sequence[str]:
    lines = []
    for name, evaluation in evaluations.items():
        for one in evaluation.judged:
            example, verdict = one.example, one.verdict
            line: dict[str, Any] = {
                "intrinsic": name,
                "where": example.where,
                "origin": example.origin,
                "completion": example.completion,
                "correct": example.correct,
            }
            if verdict is None:
                line["error"] = one.error
            else:
                line |= {
                    "text": verdict.text,
                    "label": verdict.label,
                    "value": verdict.value,
                    "probabilities": dict(verdict.probabilities),
                    "result": verdict.result,
                }
            line |= {"messages": example.messages, "documents": example.documents}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return lines


def _tell_failures(evaluations: Mapping[str, Evaluation]) -> int:
    """Tells the first failures on stderr; returns how many there are."""
    failed = [(name, one) for name, evaluation in evaluations.items() for one in evaluation.failed]
    for name, one in failed[:_LISTED]:
        reason = " ".join(terminal.printable(str(one.error)).split())
        print(f"alora-cli: {one.example.where}: '{name}' gave no verdict: {reason}", file=sys.stderr)
    if failed:
        total = sum(len(evaluation.judged) for evaluation in evaluations.values())
        print(f"alora-cli: error: {len(failed)} of {total} verdicts failed; no figure counts them", file=sys.stderr)
    return len(failed)
