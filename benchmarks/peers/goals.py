"""What the engine has to show against its peers, and what a results file has of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.peers.results import Measure, Ratio, Results, evaluated, seconds, time_to_first
from benchmarks.peers.works import RETURN_TOKENS, Steps

OURS = "ours"
# The shape that the goals were set for; others are shown without being held against them.
SET_FOR = {"shape": "1b", "quantization": "q4_k_m"}
_ANY = 0
_MB = 1_000_000


@dataclass(frozen=True)
class Outcome:
    """A goal and what was measured.

    Attributes:
        about: What it is about; figures are multiples unless it names a unit.
        prompt: Tokens before; None where it is not about a prompt.
        goal: The bound; None where none was set for this prompt, shape and quantization.
        at_least: Whether it is a lower bound.
        value: What was measured; None if it was not.
        spread: The ratio with its spread, where the value is one.
    """

    about: str
    prompt: int | None
    goal: float | None
    at_least: bool
    value: float | None
    spread: Ratio | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None if there is none, or it was not measured."""
        if self.value is None or self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass(frozen=True)
class _RatioGoal:
    about: str
    work: str
    of: tuple[str, Measure]
    to: tuple[str, Measure]
    goals: Mapping[int, float]
    at_least: bool = True

    def outcomes(self, results: Results) -> Iterator[Outcome]:
        """One for each prompt that a goal was set for or that was measured."""
        goals = self.goals if bind(results) else {}
        measured = results.prompts(self.work)
        for prompt in sorted({*measured, *goals} - ({_ANY} if measured else set())):
            ratio = results.ratio(self.work, prompt, self.of, self.to)
            goal = goals.get(prompt, goals.get(_ANY))
            yield Outcome(self.about, prompt or None, goal, self.at_least, ratio.value if ratio else None, ratio)


_FIRST = time_to_first("turn", "base")
_RATIOS = (
    _RatioGoal(
        "first token of the base after three checks and 16 new tokens, llama-server over ours",
        "return",
        ("llama-server", _FIRST),
        (OURS, _FIRST),
        {1024: 50, 4096: 100},
    ),
    _RatioGoal(
        "one-token verdict, LoRA over ours",
        "verdict",
        ("ours-lora", seconds("verdict")),
        (OURS, seconds("verdict")),
        {1024: 80, 4096: 250},
    ),
    _RatioGoal(
        "three verdicts after a turn, llama-server over ours",
        "conversation",
        ("llama-server", seconds("verdicts")),
        (OURS, seconds("verdicts")),
        {_ANY: 2},
    ),
    _RatioGoal(
        "eight verdicts, one by one over fused",
        "eight",
        ("ours-one-by-one", seconds("verdicts")),
        (OURS, seconds("verdicts")),
        {_ANY: 1.8},
    ),
    _RatioGoal(
        "eight rows in a pass, ours over llama.cpp",
        "rows",
        (OURS, seconds("rows")),
        ("llama-cpp-python", seconds("rows")),
        {4096: 0.7},
        at_least=False,
    ),
    _RatioGoal(
        "eight rows, each under an adapter over none of them",
        "adapted-rows",
        (OURS, seconds("adapted")),
        (OURS, seconds("rows")),
        {_ANY: 1.05},
        at_least=False,
    ),
    _RatioGoal(
        "reply under three guards over the same without",
        "guarded",
        (OURS, seconds("guarded")),
        (OURS, seconds("unguarded")),
        {_ANY: 1.4},
        at_least=False,
    ),
    _RatioGoal(
        "reply under three guards, ours over guards asked one by one",
        "guarded",
        (OURS, seconds("guarded")),
        ("ours-one-by-one", seconds("guarded")),
        {_ANY: 0.6},
        at_least=False,
    ),
    _RatioGoal(
        "reading a prompt, Granite Switch over ours",
        "verdict",
        ("llama-server-switch", seconds("prompt")),
        (OURS, seconds("prompt")),
        {_ANY: 1},
    ),
    _RatioGoal(
        "one-token verdict, Granite Switch over ours",
        "verdict",
        ("llama-server-switch", seconds("verdict")),
        (OURS, seconds("verdict")),
        {_ANY: 1},
    ),
)


def read_again(steps: Steps) -> float:
    """Rows that the base computed to go on after checks, beyond the new ones."""
    # The last token that it writes is not read any more.
    return evaluated("turn", "base")(steps) - (2 * RETURN_TOKENS - 1)


def outcomes(results: Results) -> list[Outcome]:
    """All goals, those first that are about ratios."""
    found = [outcome for goal in _RATIOS for outcome in goal.outcomes(results)]
    bound = bind(results)
    for prompt in results.prompts("return"):
        again = results.values("return", prompt, OURS, read_again)
        about = "tokens read again when the base goes on after checks, ours"
        found.append(Outcome(about, prompt, 0 if bound else None, False, max(again, default=None)))
    held = results.contenders.get(OURS)
    over = None if held is None else overhead(held) / _MB
    about = "memory over weights and KV cache at its peak, ours, MB"
    return [*found, Outcome(about, None, 80 if bound else None, False, over)]


def overhead(held: Mapping[str, float]) -> float:
    """Bytes of a contender's memory, at its peak, beyond weights and KV cache."""
    return held["peak"] - held["weights"] - held["kv"]


def bind(results: Results) -> bool:
    """Whether the goals were set for what was measured."""
    return all(results.settings[key] == value for key, value in SET_FOR.items())
