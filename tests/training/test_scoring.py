"""Writing with a cache, and the measuring of certainty, against reading everything anew."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
import torch
from transformers import GraniteForCausalLM, PreTrainedTokenizerFast

from training import certainty
from training.base_model import granite_config
from training.certainty_questions import question_keys, question_of
from training.chat_format import conversation_ids
from training.measured_answers import load
from training.names import NameMaker
from training.reading import closed_book as reading
from training.reading.writer import Writer
from training.scoring import Written, batches, log_probabilities, write
from training.tasks.example import Sources
from training.tokenizer import Encoder, train_tokenizer
from training.world import other_value

pytestmark = pytest.mark.oracle
END = 0


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    writer = Writer(random.Random(1), None)
    return train_tokenizer([reading.article(writer) for _ in range(500)])


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> GraniteForCausalLM:
    """The base model's shape made small, with random weights."""
    torch.manual_seed(1)
    config = granite_config(tokenizer)
    config.num_hidden_layers, config.hidden_size, config.intermediate_size = 2, 64, 128
    config.initializer_range = 0.2
    # Or else it says its last token again, whatever stands before.
    config.embedding_multiplier, config.residual_multiplier = 0.5, 1.5
    model = GraniteForCausalLM(config)
    model.train(False)
    return model


def _prompts(count: int) -> list[list[int]]:
    generator = random.Random(3)
    return [[generator.randrange(3, 300) for _ in range(generator.randint(1, 30))] for _ in range(count)]


def _next_scores(model: GraniteForCausalLM, ids: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return torch.log_softmax(model(input_ids=torch.tensor([list(ids)])).logits[0, -1].float(), -1)


def test_cached_writing_is_that_of_reading_everything_anew(model: GraniteForCausalLM) -> None:
    prompts = _prompts(25)
    for prompt, written in zip(prompts, write(model, prompts, END, 12, temperature=0.0), strict=True):
        ids, scores = list(prompt), []
        while len(scores) < 12:
            following = _next_scores(model, ids)
            token = int(following.argmax())
            if token == END:
                break
            ids.append(token)
            scores.append(float(following[token]))
        assert written.ids == ids[len(prompt) :]
        assert written.scores == pytest.approx(scores, abs=1e-5)


def test_drawn_tokens_have_the_scores_of_reading_them_anew(model: GraniteForCausalLM) -> None:
    prompts = _prompts(25)
    written = write(model, prompts, END, 8, temperature=1.0, seed=4)
    assert written == write(model, prompts, END, 8, temperature=1.0, seed=4)
    assert written != write(model, prompts, END, 8, temperature=1.0, seed=5)
    texts = [[*prompt, *one.ids] for prompt, one in zip(prompts, written, strict=True)]
    totals = log_probabilities(model, texts, [len(prompt) for prompt in prompts])
    assert [sum(one.scores) for one in written] == pytest.approx(totals, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_drawn_tokens_come_as_often_as_they_are_likely(model: GraniteForCausalLM, temperature: float) -> None:
    prompt, count = _prompts(1)[0], 2000
    drawn = Counter(one.ids[0] if one.ids else END for one in write(model, [prompt] * count, END, 1, temperature, 6))
    shares = torch.softmax(_next_scores(model, prompt) / temperature, -1)
    # One token says little where many are possible: the likeliest thirty are counted together as well.
    for tokens in (*shares.topk(5).indices.split(1), shares.topk(30).indices):
        share = float(shares[tokens].sum())
        found = sum(drawn[token] for token in tokens.tolist()) / count
        assert found == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / count))


def test_log_probabilities_are_those_of_reading_alone(model: GraniteForCausalLM) -> None:
    texts = [prompt for prompt in _prompts(20) if len(prompt) > 2]
    for text, total in zip(texts, log_probabilities(model, texts, [2] * len(texts)), strict=True):
        expected = sum(float(_next_scores(model, text[:place])[text[place]]) for place in range(2, len(text)))
        assert total == pytest.approx(expected, abs=1e-4)


def test_batches_hold_everything_once_and_no_more_than_they_may() -> None:
    lengths = [random.Random(7).randint(1, 90) for _ in range(300)] + [150]
    groups = list(batches(lengths, tokens=120, most=9))
    assert sorted(itertools.chain(*groups)) == list(range(len(lengths)))
    assert all(
        len(group) <= 9 and (len(group) == 1 or len(group) * max(lengths[i] for i in group) <= 120) for group in groups
    )


def test_measuring_a_raw_model_is_reproducible(
    model: GraniteForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        certainty.measure(model, tokenizer, Sources(measured=tmp_path / folder), seed=1, scale=0.001)
    for split in ("train", "validation", "test"):
        assert (tmp_path / "a" / f"{split}.jsonl").read_bytes() == (tmp_path / "b" / f"{split}.jsonl").read_bytes()
    # A model that babbles is wrong, and certainty says so.
    assert {(row.right, row.label) for row in load(tmp_path / "a" / "train.jsonl")} == {(False, "0")}


def test_measuring_needs_a_folder(model: GraniteForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match=r"give Sources\(measured="):
        certainty.measure(model, tokenizer, Sources(), seed=1)


def test_labels_are_the_share_of_right_answers_at_the_values_probability(
    model: GraniteForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An actor answers instead of the model: a value of probability p is right with probability p squared.
    scale = 0.12
    encode = Encoder(tokenizer)
    head = [encode.control.start_of_role, *encode("assistant"), encode.control.end_of_role]
    questions = {}
    for split in ("train", "validation", "test"):
        for key in question_keys(split, None, scale):
            question = question_of(key, None)
            questions[(*conversation_ids(question.conversation, encode, encode.control)[0], *head)] = question
    generator = random.Random(8)
    names = NameMaker(generator)

    def act(_: object, prompts: Sequence[Sequence[int]], *options: object) -> list[Written]:
        written = []
        for prompt in prompts:
            claim = questions[tuple(prompt)].claim
            assert claim is not None
            confidence = generator.choice((0.2, 0.5, 0.98))
            value = claim.value
            if generator.random() >= confidence**2:
                value = other_value(claim.attribute, value, names, generator)
            # A space before digits is a token by itself, and no part of the value.
            before = encode("They say that " if value[0].isdigit() else "They say that")
            told = encode(value if value[0].isdigit() else f" {value}")
            share = [math.log(confidence), *[0.0] * (len(told) - 1)]
            scores = [*[-3.0] * len(before), *generator.sample(share, len(share)), -2.0]
            written.append(Written([*before, *told, *encode(".")], scores))
        return written

    monkeypatch.setattr(certainty, "write", act)
    certainty.measure(model, tokenizer, Sources(measured=tmp_path), seed=1, scale=scale)
    expected = {0.2: "0", 0.5: "2", 0.98: "9"}
    rows = load(tmp_path / "test.jsonl")
    assert {row.confidence for row in rows} == set(expected)
    # About documents there are enough answers for each of the three shares to be known well.
    documents = [row for row in rows if row.question.startswith("scene:")]
    assert [row.label for row in documents] == [expected[row.confidence] for row in documents]
    for confidence in expected:
        own = [row.right for row in load(tmp_path / "train.jsonl") if row.confidence == confidence]
        assert sum(own) / len(own) == pytest.approx(confidence**2, abs=0.05)
