"""What a check must cost: bytes and operations, the time they take at least, here and on a laptop.

    python -m benchmarks.cost_model --model FILE --machine machine.json [--contexts 1024 4096] [--rank 32]
                                    [--targets attn_q attn_k attn_v] [--page docs/performance.md]

`FILE` is the GGUF of a model, of which only the shape matters; `machine.json` is what `python -m benchmarks.machine`
wrote. Tables are printed in Markdown, or put between the marks of a page.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alora_cpp.errors import AloraError
from benchmarks.machine import Machine, Measurements, read_measurements
from benchmarks.model_shape import Matrix, ModelShape, low_rank, read_shape
from benchmarks.pages import table, with_tables
from benchmarks.pass_cost import Cost, Pass, cache_walks, pass_costs, reading

INVOCATION = 4  # tokens that invoke an adapter
NEW_ROWS = 16  # what the base model has to read when it goes on after checks
REPLY, EVERY, GUARDS = 64, 16, 3

# From what llama-bench said elsewhere, for 8.03 billion weights. A Ryzen 9 7950X, 16 threads: 11.26 tokens written and
# 75.88 read in a second, Q5_K_S, 5.21 GiB (github.com/ikawrakow/ik_llama.cpp/pull/132); a laptop has half its cores. An
# M4 with its GPU: 20.87 and 224.81, Q4_K_M, 4.58 GiB (github.com/brand-o/normiebench/issues/3).
_WEIGHTS = 8.03e9
DDR5 = ("8 cores, DDR5", 11.26 * 5.21 * 2**30, 75.88 * 2 * _WEIGHTS / 2)
M4 = ("Apple M4, GPU", 20.87 * 4.58 * 2**30, 224.81 * 2 * _WEIGHTS)

Works = dict[str, list[Pass]]


@dataclass(frozen=True)
class Column:
    """A machine of the tables, at its limit or as its kernels are."""

    title: str
    seconds: Callable[[dict[str, Cost]], float]


def works(context: int) -> Works:
    """What is done after a prompt of that many tokens, as the passes that it takes."""
    verdict = Pass(context, adapted=(INVOCATION,))
    row_verdict = Pass(context, adapted=(1,))
    reply = [Pass(context + n, base=1) for n in range(REPLY)]
    points = range(EVERY, REPLY + 1, EVERY)
    guarded = reply.copy()
    for point in points[:-1]:
        # The guards join the row of the token after their point; after the last token there is none.
        guarded[point] = Pass(context + point, base=1, adapted=GUARDS * (INVOCATION,), wanted=1 + GUARDS)
    return {
        "reading the prompt": reading(context),
        "writing a token": [Pass(context, base=1)],
        "one verdict": [verdict],
        "one verdict, LoRA": reading(context + INVOCATION, adapted=True),
        "three verdicts": [_fused(3, verdict)],
        "three verdicts, one by one": 3 * [verdict],
        "eight verdicts": [_fused(8, verdict)],
        "eight verdicts, one by one": 8 * [verdict],
        "eight verdicts of one row": [_fused(8, row_verdict)],
        "eight verdicts of one row, one by one": 8 * [row_verdict],
        "base goes on": [Pass(context, base=NEW_ROWS)],
        "base goes on, all read again": reading(context + NEW_ROWS),
        "reply": reply,
        "guarded reply": [*guarded, _fused(GUARDS, replace(verdict, context=context + REPLY))],
        "guarded reply, one by one": [
            *reply,
            *(replace(verdict, context=context + point) for point in points for _ in range(GUARDS)),
        ],
    }


def _fused(count: int, verdict: Pass) -> Pass:
    return replace(verdict, adapted=count * verdict.adapted, wanted=count)


RATIOS = (
    ("one verdict, LoRA", "one verdict"),
    ("base goes on, all read again", "base goes on"),
    ("three verdicts, one by one", "three verdicts"),
    ("eight verdicts, one by one", "eight verdicts"),
    ("eight verdicts of one row, one by one", "eight verdicts of one row"),
    ("guarded reply", "reply"),
    ("guarded reply", "guarded reply, one by one"),
)


def laptops(machine: Machine) -> tuple[Machine, Machine]:
    """A laptop's processor and a laptop's GPU, with kernels as good as on this machine for few rows."""
    ddr5, m4 = (machine.like(name, bandwidth=bandwidth, products=products) for name, bandwidth, products in (DDR5, M4))
    return ddr5, m4


def columns(machine: Machine) -> list[Column]:
    """This machine and the laptops."""
    ddr5, m4 = laptops(machine)
    return [
        Column("here, limit", machine.limit),
        Column("here, expected", machine.expected),
        Column(f"{ddr5.name}, limit", ddr5.limit),
        Column(f"{ddr5.name}, expected", ddr5.expected),
        # A GPU's kernels for few rows are nothing like those of a processor.
        Column(f"{m4.name}, limit", m4.limit),
    ]


def balance(model: ModelShape, machine: Machine) -> float:
    """Rows at which products take as long as reading the weights of the blocks."""
    size = sum(matrix.bytes for matrix in model.projections)
    return machine.best * size / (machine.bandwidth * sum(matrix.operations for matrix in model.projections))


def tables(
    model: ModelShape, adapter: Sequence[Matrix], measured: Measurements, contexts: Sequence[int]
) -> dict[str, str]:
    """All tables in Markdown, by the name of their marks in a page."""
    shown = columns(measured.machine)
    return {
        "cost: made with": _made_with(model, adapter, measured),
        "cost: machine": _machines(measured),
        "cost: works": _works(model, adapter, contexts, shown),
        "cost: ratios": _ratios(model, adapter, contexts, shown),
        "cost: passes": _passes(measured),
        "cost: walks": _walks(model, contexts),
    }


def _made_with(model: ModelShape, adapter: Sequence[Matrix], measured: Measurements) -> str:
    adapter_bytes = sum(matrix.bytes for matrix in adapter)
    others = (f"{balance(model, one):.0f} ({one.name})" for one in laptops(measured.machine))
    return (
        f"Model: {model.name}, {model.file_type}: {model.weights / 1e9:.2f} billion weights in "
        f"{model.weight_bytes / 1e9:.2f} GB, {model.cell_bytes / 1024:.0f} KiB of keys and values for each token, "
        f"{model.group} query heads on each head of them; an adapter has {adapter_bytes / 1e6:.1f} MB. "
        f"Machine: {measured.machine.name}, {max(measured.machines)} threads, measured with {measured.model}, "
        f"{measured.file_type}. Rows at which memory and products take the same time, `n*`: "
        f"{balance(model, measured.machine):.0f} here, {', '.join(others)}."
    )


def _machines(measured: Measurements) -> str:
    def rate(rates: dict[int, float], rows: int) -> str:
        return f"{rates[rows] / 1e9:.3g}" if rows in rates else ""

    rows = (1, 8, 16, 512)
    head = ["threads", "memory, GB/s", *(f"products, {n} rows, Gop/s" for n in rows), "attention, 8 rows", "512 rows"]
    body = [
        [str(threads), f"{machine.bandwidth / 1e9:.1f}"]
        + [rate(dict(machine.products), n) for n in rows]
        + [rate(dict(machine.attention), n) for n in (8, 512)]
        for threads, machine in measured.machines.items()
    ]
    return table(head, body)


def _works(model: ModelShape, adapter: Sequence[Matrix], contexts: Sequence[int], shown: Sequence[Column]) -> str:
    body = []
    for context in contexts:
        for name, passes in works(context).items():
            costs = [pass_costs(model, adapter, one) for one in passes]
            parts = [cost for one in costs for cost in one.values()]
            body.append(
                [
                    name,
                    f"{context:,}",
                    f"{sum(one.rows for one in passes):,}",
                    str(len(passes)),
                    f"{sum(part.bytes for part in parts) / 1e9:.2f}",
                    f"{sum(part.operations for part in parts) / 1e9:,.1f}",
                    *(f"{1000 * sum(map(column.seconds, costs)):,.0f}" for column in shown),
                ]
            )
    head = ["what", "after", "rows", "passes", "GB", "Gop", *(f"{column.title}, ms" for column in shown)]
    return table(head, body)


def _ratios(model: ModelShape, adapter: Sequence[Matrix], contexts: Sequence[int], shown: Sequence[Column]) -> str:
    body = []
    for slow, fast in RATIOS:
        for context in contexts:
            found = works(context)
            costs = [[pass_costs(model, adapter, one) for one in found[name]] for name in (slow, fast)]
            ratios = [sum(map(c.seconds, costs[0])) / sum(map(c.seconds, costs[1])) for c in shown]
            body.append([f"{slow} / {fast}", f"{context:,}", *(f"{ratio:,.3g}" for ratio in ratios)])
    return table(["time of / time of", "after", *(column.title for column in shown)], body)


def _passes(measured: Measurements) -> str:
    body = [
        [
            f"{one.context:,}",
            str(one.rows),
            f"{1000 * one.seconds:.1f}",
            f"{1000 * one.limit:.1f}",
            f"{100 * one.limit / one.seconds:.0f} %",
        ]
        for one in measured.passes
    ]
    return table(["after tokens", "rows", "measured, ms", "limit, ms", "limit / measured"], body)


def _walks(model: ModelShape, contexts: Sequence[int]) -> str:
    body = [
        [f"{context:,}", str(rows)]
        + [f"{model.cell_bytes * context * times / 1e6:,.0f}" for times in cache_walks(model, rows).values()]
        for context in contexts
        for rows in (1, 4, 12, 32)
    ]
    return table(["after tokens", "rows", *(f"{way}, MB" for way in cache_walks(model, 1))], body)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF")
    parser.add_argument("--machine", type=Path, required=True, help="what `python -m benchmarks.machine` wrote")
    parser.add_argument("--contexts", nargs="+", type=int, default=[1024, 4096])
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--targets", nargs="+", default=["attn_q", "attn_k", "attn_v"])
    parser.add_argument("--page", type=Path, help="page to put the tables into; without it, they are printed")
    options = parser.parse_args()
    try:
        model = read_shape(options.model)
        adapter = low_rank(model, rank=options.rank, targets=options.targets)
        found = tables(model, adapter, read_measurements(options.machine), options.contexts)
    except AloraError as error:
        raise SystemExit(str(error)) from None
    if options.page:
        options.page.write_text(with_tables(options.page.read_text(encoding="utf-8"), found), encoding="utf-8")
    else:
        print("\n\n".join(found.values()))


if __name__ == "__main__":
    main()
