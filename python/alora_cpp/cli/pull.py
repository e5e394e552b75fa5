"""`alora-cli pull`: adapters and models from the Hugging Face hub."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alora_cpp.cli import options, terminal
from alora_cpp.errors import AdapterError, ConversionError

if TYPE_CHECKING:
    from alora_cpp.hub.models import ModelOffer
    from alora_cpp.hub.offers import Offer
    from alora_cpp.hub.repository import Repository
    from alora_cpp.model import Model


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "pull",
        help="download adapters or a model from the Hugging Face hub",
        description="Download adapters or a model from the Hugging Face hub into its own cache, and remember the "
        "adapters, so that 'alora-cli run' finds them by name. Prints where they are. Where a repository has several "
        "and none is named, lists them.",
    )
    parser.add_argument("reference", metavar="REPO", help="org/repo, org/repo:QUANTIZATION or org/repo#INTRINSIC")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--intrinsic", metavar="NAME[,NAME]", type=options.names, help="which adapters")
    what.add_argument("--all", action="store_true", help="all adapters (those for the base, if one is given)")
    what.add_argument("--file", metavar="PATTERN", help="a model whose file matches, such as '*Q4_K_M.gguf'")
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="the model that the adapters are for, and are checked against: a GGUF file, 'bundled' or one on the hub; "
        "or a base's name as the repository has it, which is not checked",
    )
    parser.add_argument("--kind", choices=["alora", "lora"], help="default: alora where there is one")
    parser.add_argument("--revision", metavar="REVISION", help="a branch, tag or commit (default: the newest)")
    parser.add_argument("--json", action="store_true", help="what was pulled as JSON, a line for each")
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from alora_cpp.hub.models import choose_model, model_offers
    from alora_cpp.hub.offers import adapter_offers
    from alora_cpp.hub.reference import parse_reference
    from alora_cpp.hub.repository import open_repository
    from alora_cpp.io import canonical_name

    reference = parse_reference(arguments.reference)
    wants_model = arguments.file is not None or reference.quantization is not None
    names = arguments.intrinsic or ([reference.intrinsic] if reference.intrinsic else [])
    if wants_model and (names or arguments.all):
        arguments.refuse("a model (:QUANTIZATION, --file) and intrinsics are pulled one after the other")
    repository = open_repository(reference.repo, arguments.revision)
    adapters = [] if wants_model else adapter_offers(repository)
    models = model_offers(repository, adapters=[offer.path for offer in adapters])
    if not names and not arguments.all and adapters:
        if models or len({canonical_name(offer.name) for offer in adapters}) > 1:
            return _list(repository, adapters, models)
    elif not adapters and not names and not arguments.all:
        _pull_model(repository, choose_model(repository, models, reference.quantization, arguments.file), arguments)
        return 0
    return _pull_adapters(repository, adapters, names, arguments)


def _list(repository: Repository, adapters: Sequence[Offer], models: Sequence[ModelOffer]) -> int:
    rows = [
        [offer.name, offer.kind, offer.base or "", "GGUF" if offer.is_gguf else "PEFT", _megabytes(offer.size)]
        for offer in adapters
    ]
    rows += [[offer.name, "model", "", "GGUF", _megabytes(offer.size)] for offer in models]
    print(terminal.table(["name", "kind", "base", "format", "size"], rows))
    command = f"alora-cli pull {repository.name}"
    hints = [f"{command} --intrinsic {adapters[0].name} --base MODEL", f"{command} --all --base MODEL"]
    hints += [f"{command} --file {models[0].name}"] if models else []
    _note("nothing was pulled; say what, for instance: " + "; ".join(hints))
    return 2


def _pull_model(repository: Repository, offer: ModelOffer, arguments: argparse.Namespace) -> None:
    from alora_cpp.hub.transfer import download

    path = download(repository, list(offer.files))[0]
    facts = {"kind": "model", "path": str(path), "repo": repository.name, "revision": repository.commit}
    print(json.dumps(facts, ensure_ascii=False) if arguments.json else path)


def _pull_adapters(
    repository: Repository, offers: Sequence[Offer], names: Sequence[str], arguments: argparse.Namespace
) -> int:
    from alora_cpp.hub.adapters import choose_offer, download_offer, fits
    from alora_cpp.hub.pulled import remember

    base = _base(arguments.base)
    called: list[str] = base.names if base else [arguments.base] if arguments.base else []
    wanted: Sequence[str | None] = names or [None]
    if arguments.all:
        meant = [offer.name for offer in offers if fits(offer, called) and arguments.kind in (None, offer.kind)]
        # Where none is, the error for any of them says why.
        wanted = list(dict.fromkeys(meant)) or [offer.name for offer in offers[:1]] or [None]
    chosen = [(name, choose_offer(repository, offers, name, base_names=called, kind=arguments.kind)) for name in wanted]
    failed = 0
    for name, offer in chosen:
        adapter = download_offer(repository, offer, name=name)
        if base is not None:
            try:
                _check(adapter.name, adapter.path, base)
            except (AdapterError, ConversionError) as error:
                failed += 1
                why = " ".join(str(error).split())
                _note(f"alora-cli: error: {adapter.name} of {repository.name} does not fit: {why}")
                continue
        facts = asdict(remember(adapter)) | {"fits": base and str(base.path)}
        print(json.dumps(facts, default=str, ensure_ascii=False) if arguments.json else adapter.path)
        if not arguments.json:
            _note(_said(adapter.name, offer, repository, base))
    return 1 if failed else 0


def _base(name: str | None) -> Model | None:
    """The model that adapters are checked against; None for a mere name."""
    from alora_cpp.hub import is_reference

    if name is None:
        return None
    is_model = name == "bundled" or name.lower().endswith(".gguf") or Path(name).exists() or is_reference(name)
    return options.load_model(name, n_gpu_layers=0) if is_model else None


def _check(name: str, path: Path, base: Model) -> None:
    from alora_cpp.finding.place import Place

    with terminal.Progress(f"converting {name}" if path.is_dir() else f"checking {name}"):
        Place(name, "pulled", path).check(base)


def _said(name: str, offer: Offer, repository: Repository, base: Model | None) -> str:
    model = base.path if base else "MODEL"
    checked = f"fits {base.path}" if base else "not checked against a model, for want of --base MODEL"
    return (
        f"{name}: {offer.kind} for {offer.base or 'a base it does not name'}, {_megabytes(offer.size)}, of "
        f"{repository.name} at {repository.commit[:8]}; {checked}. Ask it: alora-cli run {model} --intrinsic {name}"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _note(text: str) -> None:
    print(text, file=sys.stderr)
