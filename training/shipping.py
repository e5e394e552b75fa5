"""Turns what the pipeline made into the files that the package ships, and the test sets into labelled data.

python -m training.shipping --data DIR --out build/bundled
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

from alora_cpp.convert import convert_adapter
from alora_cpp.file_digest import digest_of
from training.commands import COMMANDS
from training.export_gguf import export
from training.io_formats import io_description
from training.tasks.example import Example, Sources
from training.tasks.intrinsics import INTRINSICS, TASKS, Intrinsic

SHIPPED = Path(__file__).parents[1] / "python/alora_cpp/bundled"
RECORD = Path(__file__).parent / "shipped.json"
MEASURED = Path(__file__).parent / "measured"
_GENERATED = 1000


def _labelled(example: Example, intrinsic: Intrinsic) -> dict[str, object]:
    """An example as a line of labelled data."""
    messages, documents = example.conversation.as_dicts()
    line: dict[str, object] = {"messages": messages}
    if documents:
        line["documents"] = documents
    line |= {"completion": intrinsic.completion(example.label), "origin": example.origin}
    if example.right is not None:
        line["correct"] = example.right
    return line


def write_test_sets(folder: Path, sources: Sources) -> None:
    """Writes the test set of every intrinsic, as `alora-cli eval` and benchmarks/accuracy read it."""
    folder.mkdir(parents=True, exist_ok=True)
    examples = {name: task.measured_examples("test", sources, _GENERATED) for name, task in TASKS.items()}
    for intrinsic in INTRINSICS.values():
        own = examples[intrinsic.task.name]
        lines = (json.dumps(_labelled(example, intrinsic), ensure_ascii=False) + "\n" for example in own)
        (folder / f"{intrinsic.name}.jsonl").write_text("".join(lines), encoding="utf-8")


def ship(out: Path) -> None:
    """Writes base and adapters into the package, and their hashes beside the commands that made them."""
    model = SHIPPED / "alora-tiny.gguf"
    export(out / "base", model)
    for intrinsic in INTRINSICS.values():
        text = yaml.safe_dump(io_description(intrinsic), sort_keys=False)
        (out / intrinsic.name / "io.yaml").write_text(text, encoding="utf-8")
        target = SHIPPED / f"alora-tiny.{intrinsic.name}.gguf"
        convert_adapter(out / intrinsic.name, target, base=model, outtype="q8_0", name=intrinsic.name)
    files = {file.name: digest_of(file).sha256 for file in sorted(SHIPPED.glob("*.gguf"))}
    command = " && ".join((out / COMMANDS).read_text(encoding="utf-8").splitlines())
    RECORD.write_text(json.dumps({"command": command, "sha256": files}, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Ships and writes the test sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real data, as given to `python -m training`")
    parser.add_argument("--out", type=Path, default=Path("build/bundled"), help="what `python -m training` wrote")
    parser.add_argument("--only-tests", action="store_true", help="leave the shipped files as they are")
    options = parser.parse_args()
    if not options.only_tests:
        MEASURED.mkdir(exist_ok=True)
        (MEASURED / "test.jsonl").write_bytes((options.out / "measured/test.jsonl").read_bytes())
        ship(options.out)
    write_test_sets(options.out / "tests", Sources(options.data, MEASURED))


if __name__ == "__main__":
    main()
