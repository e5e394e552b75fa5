"""Certainty: calibration against brute force, questions by their keys, kept answers, and measuring a made-up model."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from training.calibration import isotonic
from training.certainty_questions import question_keys, question_of
from training.closed_book import closed_book, remembered
from training.measured_answers import Measured, fingerprint, load, save
from training.names import side_of
from training.splits import Split, split_of
from training.tasks import certainty
from training.tasks.example import Sources

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
KEYS = {split: question_keys(split, None, 0.02 if split == "train" else 0.3) for split in SPLITS}


def _best_rising(shares: list[float], counts: list[int]) -> list[float]:
    """By trying all: the rising heights with the least squared error, from every way to pool neighbours."""
    best, least = shares, float("inf")
    for cuts in itertools.product((False, True), repeat=len(shares) - 1):
        runs: list[list[int]] = [[0]]
        for place, cut in enumerate(cuts, 1):
            if cut:
                runs.append([])
            runs[-1].append(place)
        heights = []
        for run in runs:
            mean = sum(shares[i] * counts[i] for i in run) / sum(counts[i] for i in run)
            heights += [mean] * len(run)
        error = sum(count * (share - height) ** 2 for share, count, height in zip(shares, counts, heights, strict=True))
        if heights == sorted(heights) and error < least - 1e-12:
            best, least = heights, error
    return best


@pytest.mark.parametrize("seed", range(30))
def test_isotonic_is_the_best_rising_curve(seed: int) -> None:
    generator = random.Random(seed)
    confidences = [generator.random() for _ in range(generator.randint(1, 10))]
    right = [generator.random() < confidence for confidence in confidences]
    curve = isotonic(confidences, right, least=1)
    order = sorted(range(len(right)), key=confidences.__getitem__)
    expected = _best_rising([float(right[i]) for i in order], [1] * len(order))
    assert [curve.share(confidences[i]) for i in order] == pytest.approx(expected)


def test_every_step_rests_on_enough_answers() -> None:
    generator = random.Random(1)
    confidences = [generator.random() for _ in range(1055)]
    right = [generator.random() < confidence**2 for confidence in confidences]
    curve = isotonic(confidences, right, least=100)
    assert list(curve.shares) == sorted(curve.shares)
    assert len(curve.shares) >= 5
    for low, high, share in zip(curve.edges, (*curve.edges[1:], 2.0), curve.shares, strict=True):
        own = [verdict for confidence, verdict in zip(confidences, right, strict=True) if low <= confidence < high]
        assert len(own) >= 100
        assert sum(own) / len(own) == pytest.approx(share)


def test_few_answers_make_one_step() -> None:
    assert isotonic([0.1, 0.2, 0.7], [False, True, True], least=100).shares == (2 / 3,)


def test_a_gap_between_guesses_and_knowledge_stays_a_gap() -> None:
    # Few know: their answers are not thrown together with the surest of the guesses.
    generator = random.Random(3)
    guesses = [(0.2 + 0.2 * generator.random(), generator.random() < 0.25) for _ in range(950)]
    known = [(0.9 + 0.1 * generator.random(), generator.random() < 0.98) for _ in range(130)]
    answers = guesses + known
    curve = isotonic([confidence for confidence, _ in answers], [verdict for _, verdict in answers], least=100)
    assert curve.share(0.9) > 0.9
    assert curve.share(0.39) < 0.45


def test_equal_confidences_have_one_share() -> None:
    # By itself, the order of equals would put the right ones into one block or the other.
    for right in ([True] * 60 + [False] * 60, [False] * 60 + [True] * 60):
        curve = isotonic([0.5] * 120 + [0.9] * 100, right + [True] * 100, least=100)
        assert (curve.share(0.5), curve.share(0.9)) == (0.5, 1.0)


def test_isotonic_needs_answers() -> None:
    with pytest.raises(ValueError, match="found 0, expected at least 1"):
        isotonic([], [])


def test_calibrated_shares_are_right_on_new_answers() -> None:
    # A model that is far too sure: the curve learned from some of its answers holds for others.
    generator = random.Random(2)

    def answers(count: int) -> list[tuple[float, bool]]:
        truths = [generator.random() for _ in range(count)]
        return [(truth**0.25, generator.random() < truth) for truth in truths]

    known, new = answers(20_000), answers(20_000)
    curve = isotonic([confidence for confidence, _ in known], [right for _, right in known])
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in new:
        share = curve.share(confidence)
        bins.setdefault(min(9, int(share * 10)), []).append((share, right))
    assert len(bins) == 10
    for own in bins.values():
        mean = sum(share for share, _ in own) / len(own)
        assert sum(right for _, right in own) / len(own) == pytest.approx(mean, abs=0.04)


def test_a_key_always_makes_the_same_question() -> None:
    for keys in KEYS.values():
        assert len(set(keys)) == len(keys)
        for key in keys[::7]:
            assert question_of(key, None) == question_of(key, None)


@pytest.mark.parametrize("split", SPLITS)
def test_questions_are_about_their_own_side(split: Split) -> None:
    book = {
        entity.name: mentions for entity, mentions in zip(closed_book().entities, closed_book().mentions, strict=True)
    }
    seldom = 0
    for key in KEYS[split]:
        question, sort = question_of(key, None), key.split(":")[0]
        assert question.claim is not None
        assert question.claim.is_true
        entity = question.claim.entity
        assert (entity.name in book) == (sort == "book")
        assert question.conversation.messages[-1].role == "user"
        assert bool(question.conversation.documents) == (sort == "scene")
        if sort == "book":
            assert split_of(entity.name) == split
            seldom += remembered(book[entity.name]) < 0.98
        elif sort == "stranger":
            assert any(side_of(word) == split for word in entity.name.split())
    asked = sum(key.startswith("book") for key in KEYS[split])
    assert seldom / asked == pytest.approx(0.2, abs=0.12)


def test_only_measured_sides_have_new_wordings() -> None:
    origins = {split: Counter(question_of(key, None).origin for key in keys) for split, keys in KEYS.items()}
    assert set(origins["train"]) == {"generated, closed book", "generated, documents"}
    for split in ("validation", "test"):
        new = sum(count for origin, count in origins[split].items() if origin.endswith("new wording"))
        assert new / sum(origins[split].values()) == pytest.approx(0.25, abs=0.1)


def test_a_real_question_needs_data() -> None:
    with pytest.raises(ValueError, match="real one: give the data folder"):
        question_of("real:3", None)


def _rows(split: Split) -> list[Measured]:
    """An answer to every third question, with labels by turns."""
    rows = []
    for place, key in enumerate(KEYS[split][::3]):
        question = question_of(key, None)
        assert question.claim is not None
        reply = f"It is {question.claim.value}."
        label = str(place % 10 if place % 2 else 9)
        rows.append(Measured(key, reply, True, label, 0.5, fingerprint(question.conversation)))
    return rows


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    for split in SPLITS:
        save(_rows(split), tmp_path / f"{split}.jsonl")
    return tmp_path


def test_kept_answers_are_what_was_saved(measured: Path) -> None:
    assert load(measured / "test.jsonl") == _rows("test")


def test_measured_examples_are_the_sides_answers_in_order(measured: Path) -> None:
    rows = _rows("validation")
    examples = certainty.measured_examples("validation", Sources(measured=measured), 20)
    assert [example.label for example in examples] == [row.label for row in rows[:20]]
    for example, row in zip(examples, rows, strict=False):
        question = question_of(row.question, None)
        assert example.conversation.messages[:-1] == question.conversation.messages
        assert (example.conversation.messages[-1].role, example.conversation.messages[-1].text) == (
            "assistant",
            row.reply,
        )
        assert (example.origin, example.right) == (question.origin, True)


def test_training_examples_are_endless_seeded_and_of_the_training_side(measured: Path) -> None:
    sources = Sources(measured=measured)
    first, again, other = (
        list(itertools.islice(certainty.training_examples(seed, sources), 500)) for seed in ("1", "1", "2")
    )
    assert first == again
    assert first != other
    replies = {row.reply for row in _rows("train")}
    assert {example.conversation.messages[-1].text for example in first} <= replies


def test_seldom_labels_are_trained_on_a_little_more_often(measured: Path) -> None:
    natural = Counter(row.label for row in _rows("train"))
    found = Counter(
        example.label
        for example in itertools.islice(certainty.training_examples("3", Sources(measured=measured)), 4000)
    )
    natural_ratio, found_ratio = natural["9"] / natural["3"], found["9"] / found["3"]
    assert 1.2 < found_ratio < 0.85 * natural_ratio


def test_an_answer_to_a_question_that_changed_is_an_error(measured: Path) -> None:
    rows = _rows("test")
    save([replace(rows[0], fingerprint="00000000"), *rows[1:]], measured / "test.jsonl")
    with pytest.raises(ValueError, match=r"not the one that was measured .* measure again"):
        certainty.measured_examples("test", Sources(measured=measured), 5)


@pytest.mark.parametrize("line", ["no json", "{}", '{"question": "book:test:1", "reply": "x"}', "[1]"])
def test_a_damaged_file_names_its_line(measured: Path, line: str) -> None:
    path = measured / "train.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"train.jsonl, line {len(_rows('train')) + 1} is no measured answer"):
        load(path)


def test_training_needs_measured_answers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give Sources\(measured="):
        next(certainty.training_examples("1", Sources()))
    with pytest.raises(FileNotFoundError, match="--stages measure"):
        next(certainty.training_examples("1", Sources(measured=tmp_path)))
    save([], tmp_path / "train.jsonl")
    with pytest.raises(ValueError, match="found no measured answers"):
        next(certainty.training_examples("1", Sources(measured=tmp_path)))


def test_saved_lines_are_json(measured: Path) -> None:
    lines = (measured / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert set(json.loads(lines[0])) == {"question", "reply", "right", "label", "confidence", "fingerprint"}
