"""`alora-cli list`: the intrinsics that are found for a model, where each is, and whether it fits."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from alora_cpp.cli import options, terminal

if TYPE_CHECKING:
    from alora_cpp.finding import Candidate
    from alora_cpp.model import Model


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "list",
        help="list the intrinsics that are found for a model",
        description="List the adapters that are found for a model, in the order in which they are preferred: what is "
        "taken is what its name means for 'run' and 'chat'.",
    )
    parser.add_argument("model", metavar="MODEL", help=options.MODEL_HELP)
    parser.add_argument("--json", action="store_true", help="as JSON")
    options.add_switch_option(parser)
    options.add_verbose_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from alora_cpp.finding import candidates

    options.show_log(arguments)
    # Nothing is computed, so nothing has to go to a GPU.
    with options.load_model(arguments.model, n_gpu_layers=0) as model:
        with terminal.Progress("looking at adapters"):
            found = candidates(model, switch_folder=arguments.switch_folder)
        facts = [_facts(model, candidate) for candidate in found]
        if arguments.json:
            print(json.dumps({"model": str(model.path), "adapters": facts}, ensure_ascii=False, indent=2))
        else:
            print(_table(facts))
    return 0


def _facts(model: Model, candidate: Candidate) -> dict[str, Any]:
    tokens = candidate.invocation_tokens(model)
    return {
        "name": candidate.name,
        "from": candidate.place.origin,
        "path": str(candidate.place.path),
        "fits": candidate.why_not is None,
        "why_not": candidate.why_not,
        "taken": candidate.taken,
        "invocation": None if tokens is None else {"text": model.detokenize(tokens, special=True), "tokens": tokens},
    }


def _table(facts: list[dict[str, Any]]) -> str:
    if not facts:
        return "no adapters"
    rows = [[one["name"], one["from"], _state(one), terminal.printable(_called_by(one)), one["path"]] for one in facts]
    lines = [terminal.table(["intrinsic", "from", "state", "called by", "path"], rows)]
    lines += [f"{one['path']}: {' '.join(one['why_not'].split())}" for one in facts if not one["fits"]]
    return "\n".join(lines)


def _state(facts: dict[str, Any]) -> str:
    if not facts["fits"]:
        return "does not fit"
    return "taken" if facts["taken"] else "fits"


def _called_by(facts: dict[str, Any]) -> str:
    if facts["invocation"] is None:
        return ""
    return json.dumps(facts["invocation"]["text"], ensure_ascii=False) if facts["invocation"]["tokens"] else "nothing"
