"""What `alora-cli bench` measured, as people and programs read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alora_cpp.bench import COMPARED, N_NEW, Measured, Measurements, Setting
from alora_cpp.cli import terminal

_ORIGINS = {"given": "given", "own": "of the model's own", "random": "with random weights"}
_NUMBERS = {3: "three", 8: "eight"}


def as_dict(setting: Setting, measurements: Measurements) -> dict[str, Any]:
    """All figures, with plain values: bytes, seconds, rows and tokens."""
    return {
        "model": {
            "name": setting.model,
            "path": str(setting.path),
            "description": setting.description,
            "parameters": setting.n_parameters,
        },
        "adapters": [
            {"name": one.name, "origin": one.origin, "rank": one.adapter.rank, "rows": len(one.invocation)}
            for one in setting.callees
        ],
        "machine": {
            "processor": setting.processor,
            "logical_processors": setting.n_processors,
            "threads": setting.n_threads or "physical cores",
            "devices": list(setting.devices),
        },
        "bytes": {
            "weights_in_file": setting.file_bytes,
            "weights": setting.weight_bytes,
            "adapters": setting.adapter_bytes,
            "process_peak": setting.peak_bytes,
        },
        "measured": [_measured(one) for one in measurements.measured],
        "left_out": [{"prompt": prompt, "why": why} for prompt, why in measurements.left_out.items()],
    }


def _measured(one: Measured) -> dict[str, Any]:
    return {
        "prompt": one.prompt,
        "rounds": one.rounds,
        "n_ctx": one.n_ctx,
        "kv_bytes": one.kv_bytes,
        "compute_bytes": one.compute_bytes,
        "works": {
            name: {"median_seconds": one.seconds(name), "samples": [asdict(sample) for sample in samples]}
            for name, samples in one.samples.items()
        },
        "times_as_long": {f"{name}/{COMPARED[name]}": one.ratio(name) for name in COMPARED if name in one.samples},
    }


def summary(setting: Setting, measurements: Measurements) -> str:
    """What was measured on, a table with a line on the meaning of each row, and what was left out."""
    parts = [_head(setting), _table(measurements.measured), _memory(setting, measurements.measured[-1])]
    parts += [
        f"Not measured: a conversation of {prompt:,} tokens: {why}." for prompt, why in measurements.left_out.items()
    ]
    return "\n\n".join(parts)


def _head(setting: Setting) -> str:
    threads = {0: "a thread for each core", 1: "1 thread"}.get(setting.n_threads, f"{setting.n_threads} threads")
    origins = Counter(callee.origin for callee in setting.callees)
    adapters = ", ".join(f"{count} {_ORIGINS[origin]}" for origin, count in origins.items())
    return (
        f"{terminal.paint(setting.model, terminal.BOLD)}: {setting.n_parameters / 1e6:,.1f} M weights "
        f"({setting.description})\n"
        f"Machine: {setting.processor}, {setting.n_processors} logical processors; {threads}; "
        f"weights on {' and '.join(setting.devices)}\n"
        f"Adapters: {adapters}"
    )


@dataclass(frozen=True)
class _Row:
    """A row of the table: its title, what it says of a measurement, and what that means."""

    title: str
    work: str
    cell: Callable[[Measured, str], str]
    meaning: str


def _table(measured: Sequence[Measured]) -> str:
    rows = [row for row in _rows(measured[-1]) if row.work in measured[-1].samples]
    header = ["after a conversation of", *(f"{one.prompt:,} tokens" for one in measured)]
    cells = [[row.title, *(row.cell(one, row.work) for one in measured)] for row in rows]
    cells.append(["medians of", *(f"{one.rounds} round{'s' * (one.rounds > 1)}" for one in measured)])
    lines = terminal.table(header, cells).splitlines()
    explained = [lines[0]]
    for line, row in zip(lines[1:-1], rows, strict=True):
        explained += [line, terminal.paint(f"    {row.meaning}", terminal.DIM)]
    return "\n".join([*explained, lines[-1]])


def _rows(longest: Measured) -> Iterator[_Row]:
    computed = {work: samples[0].evaluated for work, samples in longest.samples.items()}
    yield _Row("reading", "read", _speed, "The model reads a conversation that it has not seen.")
    yield _Row("writing", "write", _speed, "It writes a reply, token by token.")
    yield _Row(
        "one verdict",
        "verdict",
        _time,
        f"An intrinsic judges the conversation: it is called, and {computed['verdict']} tokens are computed for that.",
    )
    yield _Row(
        "  as an ordinary LoRA",
        "verdict_as_lora",
        _compared,
        "The same adapter used as LoRA is elsewhere: the whole conversation is read again, with its weights.",
    )
    for size, number in _NUMBERS.items():
        yield _Row(f"{number} verdicts", f"together_{size}", _time, f"{number.capitalize()} intrinsics, in one pass.")
        yield _Row("  one by one", f"one_by_one_{size}", _compared, "The same, in a pass for each.")
    yield _Row(
        "going on",
        "go_on",
        _time,
        f"After all these verdicts {N_NEW} tokens more, until the reply begins: {computed['go_on']} are computed.",
    )
    yield _Row(
        "  reading all again",
        "read",
        _compared,
        "What it would take, at least, if the model had to read the conversation again after verdicts.",
    )


def _speed(one: Measured, work: str) -> str:
    return f"{one.samples[work][0].evaluated / one.seconds(work):,.0f} tokens/s"


def _time(one: Measured, work: str) -> str:
    return terminal.seconds(one.seconds(work))


def _compared(one: Measured, work: str) -> str:
    return f"{_time(one, work)} ({one.ratio(work):,.1f} x)"


def _memory(setting: Setting, longest: Measured) -> str:
    peak = "" if setting.peak_bytes is None else f"; this process held at most {_size(setting.peak_bytes)}"
    return (
        f"Memory: weights {_size(setting.weight_bytes)} ({_size(setting.file_bytes)} in the file), adapters "
        f"{_size(setting.adapter_bytes)}, KV cache "
        f"{_size(longest.kv_bytes)} for {longest.n_ctx:,} tokens, compute buffers {_size(longest.compute_bytes)}{peak}"
    )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
