"""The tables of docs/gpu.md, from what the stages wrote.

python -m benchmarks.gpu.report results.json
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

# At 64 k, LoRA over ours: one verdict, five adapters in pipeline (c). Anywhere: five adapters over none, and no change.
VERDICT_GOAL, STEP_GOAL, FUSED_GOAL, GOALS_AT = 1000, 200, 1.5, 65_536


def speed_table(rows: list[dict[str, Any]], stock: list[dict[str, Any]]) -> list[str]:
    """A line for each prompt; times in milliseconds."""
    lines = [
        "| prompt | one verdict | LoRA, read again | stock, switched | stock, read again | five fused / base rows "
        "| (a) ours | (a) LoRA | (c) ours | (c) LoRA | of it five adapters, ours | LoRA | reserved, reallocated |",
        "| ---: " * 13 + "|",
    ]
    beside = {row["prompt"]: row for row in stock}
    for row in rows:
        other = beside.get(row["prompt"], {})
        cells = [
            f"{row['prompt']:,}",
            f"{row['verdict_ms']:.1f}",
            f"{row['lora_verdict_ms']:.0f}",
            *(f"{statistics.median(other[key]):.0f}" if key in other else "" for key in ("switch_ms", "reread_ms")),
            f"{row['fused_batch_ms']:.1f} / {row['base_batch_ms']:.1f}",
            *(f"{row[f'pipeline_{name}_{way}_ms']:.0f}" for name in "ac" for way in ("ours", "lora")),
            *(f"{row[f'step_c_{way}_ms']:.0f}" for way in ("ours", "lora")),
            f"{row['reservations']}, {row['reallocations']}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def goal_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Whether the goals were met; those of the longest prompt only where it was measured."""
    lines = []
    for row in rows:
        fused = row["fused_batch_ms"] / row["base_batch_ms"]
        checks = [("five fused adapters over base rows, at most", fused, FUSED_GOAL, fused <= FUSED_GOAL)]
        changes = row["reservations"] + row["reallocations"]
        checks.append(("reservations and reallocations when adapters change", changes, 0, changes == 0))
        if row["prompt"] >= GOALS_AT:
            verdict = row["lora_verdict_ms"] / row["verdict_ms"]
            step = row["step_c_lora_ms"] / row["step_c_ours_ms"]
            checks.append(("LoRA's verdict over ours", verdict, VERDICT_GOAL, verdict >= VERDICT_GOAL))
            checks.append(("five adapters in pipeline (c), LoRA's over ours", step, STEP_GOAL, step >= STEP_GOAL))
        for name, value, goal, met in checks:
            lines.append(f"| {row['prompt']:,} | {name} | {value:,.2f} | {goal:,} | {'met' if met else 'missed'} |")
    return ["| prompt | what | measured | goal | |", "| ---: | --- | ---: | ---: | --- |", *lines]


def report(results: dict[str, Any]) -> str:
    """The whole page's tables."""
    lines = [f"Machine: {results['machine']}", "", "| stage | result | seconds |", "| --- | --- | ---: |"]
    for name, stage in results["stages"].items():
        lines.append(f"| {name} | {stage['summary']} | {stage['seconds']:.0f} |")
    for name, stage in results["stages"].items():
        if rows := stage.get("rows"):
            stock = results["stages"].get(name.replace("speed", "stock"), {}).get("rows", [])
            if "verdict_ms" in rows[0]:
                lines += ["", f"### {name}", "", *speed_table(rows, stock), "", *goal_lines(rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(report(json.loads(Path(sys.argv[1]).read_text())), end="")
