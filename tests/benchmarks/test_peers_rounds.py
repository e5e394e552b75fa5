"""Works and rounds: the same for everyone, in turns, and none of them twice."""

from __future__ import annotations

import itertools

import pytest
from fake_contenders import Batching, Guarded

from benchmarks.peers.results import Results, seconds
from benchmarks.peers.rounds import Plan, play
from benchmarks.peers.works import ADAPTER_TOKENS, WORKS, Text, room

NAMES = ("ours", "ours-one-by-one", "llama-server", "peft")


def plan(*works: str, prompts: tuple[int, ...] = (20,), rounds: int = 3, patience: float = 1e9) -> Plan:
    return Plan(works, prompts, rounds, vocab=1000, patience=patience)


def played(given: Plan, parties: dict[str, Guarded], results: Results | None = None) -> Results:
    results = results or Results({"contenders": list(parties)})
    play(given, parties, results, lambda: None, settling_seconds=0)
    return results


def fakes() -> dict[str, Guarded]:
    return {name: Guarded() for name in NAMES}


def test_everyone_does_the_same_with_the_same_tokens() -> None:
    parties = fakes()
    played(plan("base-adapters-base", "conversation", "guarded", prompts=(20, 30)), parties)
    calls = [party.calls for party in parties.values()]
    assert all(one == calls[0] for one in calls)
    prompts = [call[1] for call in calls[0] if call[0] == "begin"]
    assert {len(tokens) for tokens in prompts} == {20, 30}


def test_each_round_has_tokens_of_its_own() -> None:
    parties = fakes()
    played(plan("verdict"), parties)
    prompts = [call[1] for call in parties["ours"].calls if call[0] == "begin"]
    assert len(set(prompts)) == 4


def test_the_order_changes_and_the_first_round_does_not_count() -> None:
    results = played(plan("verdict", rounds=8), fakes())
    assert [one.number for one in results.rounds] == list(range(9))
    assert len({tuple(one.steps) for one in results.rounds}) > 4
    assert {frozenset(one.steps) for one in results.rounds} == {frozenset(NAMES)}
    assert len(list(results.counted("verdict", 20))) == 8


def test_finished_rounds_are_not_played_again() -> None:
    whole = played(plan("verdict", "return"), fakes())
    parties = fakes()
    begun = Results(whole.settings, rounds=whole.rounds[:5])
    told = []
    play(plan("verdict", "return"), parties, begun, lambda: told.append(len(begun.rounds)), settling_seconds=0)
    assert told == [6, 7, 8]
    assert [one.key for one in begun.rounds] == [one.key for one in whole.rounds]
    assert sum(call[0] == "begin" for call in parties["peft"].calls) == 3


def test_an_interrupted_round_is_played_again_by_all() -> None:
    class Ending(Guarded):
        def write(self, count: int) -> None:  # type: ignore[override]
            raise KeyboardInterrupt

    parties = fakes() | {"peft": Ending()}
    results = Results({"contenders": list(parties)})
    with pytest.raises(KeyboardInterrupt):
        played(plan("base-adapter"), parties, results)
    assert results.rounds == []


def test_who_cannot_is_noted_and_the_others_go_on() -> None:
    parties = fakes() | {"peft": Guarded(most_adapters=2)}
    results = played(plan("return"), parties)
    assert all(one.cannot == {"peft": "3 adapters are too many"} for one in results.rounds)
    assert all(set(one.steps) == {"ours", "ours-one-by-one", "llama-server"} for one in results.rounds)
    assert results.reason("return", 20, "peft") == "3 adapters are too many"
    assert results.reason("return", 20, "ours") is None


def test_who_takes_long_is_measured_once() -> None:
    parties = fakes() | {"peft": Guarded(pace=100.0)}
    results = played(plan("verdict", prompts=(20,), rounds=4, patience=500), parties)
    assert len(results.values("verdict", 20, "peft", seconds())) == 1
    assert len(results.values("verdict", 20, "ours", seconds())) == 4


def test_long_prompts_are_left_out_where_a_work_says_so() -> None:
    left = plan("conversation", "verdict", prompts=(4096, 256), rounds=1).left(Results({}))
    assert [key for key in left if key[2]] == [("conversation", 256, 1), ("verdict", 256, 1), ("verdict", 4096, 1)]


def test_eight_adapters_are_asked_of_those_alone_who_are_compared_there() -> None:
    results = played(plan("eight"), fakes())
    assert set(results.names("eight")) == {"ours", "ours-one-by-one", "llama-server"}


@pytest.mark.parametrize("name", WORKS)
def test_a_context_of_that_room_holds_the_work(name: str) -> None:
    """The conversation and, behind it, all adapters' invocations and answers."""
    held = most = 0
    party = Batching()
    WORKS[name].run(party, Text((0,), 1000), 256)
    for call in party.calls:
        asked: tuple[int, ...] = ()
        match call:
            case ("begin", tokens):
                held = len(tokens)
            case ("extend", tokens):
                held += len(tokens)
            case ("write", count):
                held += count
            case ("guard", asked, count, _):
                held += count
            case ("ask", asked, _):
                pass
            case ("compute", rows, _):
                most = max(most, held + rows)
        most = max(most, held + len(asked) * (4 + ADAPTER_TOKENS))
    assert most <= room(256, [name])


def test_tokens_are_neither_invocations_nor_control_tokens() -> None:
    drawn = Text((1,), 1024).tokens(20_000)
    assert (min(drawn), max(drawn)) == (400, 923)
    assert max(Text((1,), 128_256).tokens(20_000)) < 30_000
    assert Text((1,), 1024).tokens(5) == Text((1,), 1024).tokens(5)


def test_pipelines_are_those_of_the_paper() -> None:
    party = Guarded()
    for name in ("base-adapter", "adapter-base", "base-adapters-base"):
        WORKS[name].run(party, Text((0,), 1000), 4)
    calls = [tuple(call[1:]) if call[0] != "begin" else "begin" for call in party.calls]
    runs = [list(run) for begun, run in itertools.groupby(calls, lambda call: call == "begin") if not begun]
    five = tuple(range(5))
    assert runs == [[(64,), ((0,), 16)], [((0,), 16), (64,)], [(64,), (five, 16), (64,)]]
