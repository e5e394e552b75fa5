"""The closed book and what the base model reads of it: always the same, apart from documents, as often as it says."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from training.chat_format import Conversation
from training.closed_book import (
    belief,
    best_chance,
    chance,
    closed_book,
    likely_value,
    positions,
    remembered,
    stranger,
    usual_value,
)
from training.names import NameMaker, side_of
from training.reading import closed_book as reading
from training.reading.writer import Writer
from training.real_questions import choices, read_choices
from training.scenes import Claim, claim_text, make_scene, question_text, reply_text
from training.splits import Split, split_of
from training.told_values import told_value
from training.world import Entity, fill, kinds, make_entity, other_value

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
BOOK = closed_book()
SURE = re.compile(r"(sure|certain|rely|percent|likely is it)", re.IGNORECASE)


def writer(seed: int = 1, data: Path | None = None) -> Writer:
    return Writer(random.Random(seed), data)


def word_of(entity: Entity) -> str:
    """The made-up word of a name."""
    if entity.pattern == "{P}":
        return entity.name.split()[-1]
    before, after = entity.pattern.split("{N}")
    return entity.name.removeprefix(before).removesuffix(after)


def test_book_is_the_same_in_every_process() -> None:
    script = (
        "from training.closed_book import closed_book as b; e = b(); print([(x.name, x.facts) for x in e.entities])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).resolve().parents[2],
        env={"PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == str([(entity.name, entity.facts) for entity in BOOK.entities])


def test_names_are_told_once_and_belong_to_the_book() -> None:
    assert len({entity.name for entity in BOOK.entities}) == len(BOOK.entities)
    assert {side_of(word_of(entity)) for entity in BOOK.entities} == {"closed book"}


@pytest.mark.parametrize("split", SPLITS)
def test_other_names_never_use_a_word_of_the_book(split: Split) -> None:
    names = NameMaker(random.Random(split), split)
    words = {names.word() for _ in range(5000)}
    assert len(words) > 4500, "a side that is short of words repeats them"
    assert {side_of(word) for word in words} == {split}
    assert not words & {word_of(entity) for entity in BOOK.entities}


def test_every_side_has_its_share_of_entities_known_or_not() -> None:
    assert sorted(itertools.chain(*(positions(split) for split in SPLITS))) == list(range(len(BOOK.entities)))
    known = [remembered(mentions) for mentions in BOOK.mentions]
    for split, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
        own = positions(split)
        assert {split_of(BOOK.entities[i].name) for i in own} == {split}
        assert len(own) == pytest.approx(share * len(known), rel=0.25)
        assert sum(known[i] > 0.95 for i in own) / len(own) == pytest.approx(0.7, abs=0.1)
        assert sum(known[i] < 0.05 for i in own) / len(own) == pytest.approx(0.15, abs=0.08)


def test_texts_speak_of_entities_as_often_as_the_book_says() -> None:
    generator, count = random.Random(1), 200_000
    found = Counter(BOOK.mentioned(generator).name for _ in range(count))
    assert sum(BOOK.mentions) == pytest.approx(1000)
    # Poisson counts: the sum of squared deviations, each over its mean, is about the number of entities.
    expected = [count * mentions / 1000 for mentions in BOOK.mentions]
    deviation = sum(
        (found[entity.name] - mean) ** 2 / mean for entity, mean in zip(BOOK.entities, expected, strict=True)
    )
    assert deviation == pytest.approx(len(expected), rel=0.3)


def test_facts_are_as_usual_as_the_world_says() -> None:
    generator = random.Random(2)
    names = NameMaker(generator)
    strangers = [stranger(names, generator) for _ in range(12_000)]
    for kind in (kind for kind in kinds().values() if kind.closed_book):
        own = [entity for entity in strangers if entity.kind == kind]
        for key in kind.closed_book:
            attribute = kind.attributes[key]
            if not attribute.pool:
                continue
            found = [entity.facts[key] == usual_value(entity, attribute) for entity in own]
            share = attribute.value.get("usual", 0.0)
            assert sum(found) / len(found) == pytest.approx(share, abs=0.06), (kind.key, key)


def test_chances_of_a_pool_add_up_and_the_best_guess_is_the_usual_value() -> None:
    for entity in BOOK.entities[:200]:
        for key in entity.kind.closed_book:
            attribute = entity.kind.attributes[key]
            shares = {value: chance(entity, attribute, value) for value in attribute.pool}
            if shares:
                assert sum(shares.values()) == pytest.approx(1.0)
                assert max(shares.values()) == pytest.approx(best_chance(attribute))
                assert usual_value(entity, attribute) in (None, max(shares, key=shares.__getitem__))


def test_chance_is_the_frequency_of_a_value_among_strangers() -> None:
    generator = random.Random(3)
    names = NameMaker(generator)
    entity = next(entity for entity in BOOK.entities if entity.kind.key == "animal")
    for key in ("diet", "lifespan"):
        attribute = entity.kind.attributes[key]
        found = Counter(likely_value(entity, attribute, names, generator) for _ in range(20_000))
        for value, count in found.most_common(3):
            assert chance(entity, attribute, value) == pytest.approx(count / 20_000, abs=0.012)


def test_belief_goes_from_a_guess_to_knowledge() -> None:
    entity = next(entity for entity in BOOK.entities if entity.kind.key == "bridge")
    attribute = entity.kind.attributes["toll"]
    right = entity.facts["toll"]
    (wrong,) = (value for value in attribute.pool if value != right)
    assert belief(entity, attribute, right, 0.0) == chance(entity, attribute, right)
    told = [belief(entity, attribute, right, mentions) for mentions in (0.0, 0.03, 0.1, 0.5, 2.0)]
    denied = [belief(entity, attribute, wrong, mentions) for mentions in (0.0, 0.03, 0.1, 0.5, 2.0)]
    assert told == sorted(told)
    assert told[-1] > 0.95
    assert denied == sorted(denied, reverse=True)
    assert denied[-1] < 0.05
    assert [a + b for a, b in zip(told, denied, strict=True)] == pytest.approx([1.0] * 5)


@pytest.mark.parametrize("sort", [reading.article, reading.closed_book_chat, reading.certainty_chat])
def test_reading_depends_on_the_seed_alone(sort: object) -> None:
    assert callable(sort)
    first, again, other = ([sort(w) for _ in range(20)] for w in (writer(1), writer(1), writer(2)))
    assert first == again
    assert first != other


def test_articles_state_facts() -> None:
    for seed in range(300):
        text = reading.article(writer(seed))
        named = [entity for entity in BOOK.entities if entity.name.lower() in text.lower()]
        assert any(sum(value in text for value in entity.facts.values()) >= 2 for entity in named), text


def _practice(count: int) -> list[tuple[Conversation, int]]:
    """Conversations that practise certainty, with the places of the assistant's weighty answers."""
    hand = writer(5)
    chats = [reading.certainty_chat(hand) for _ in range(count)]
    return [(chat, i) for chat in chats for i, turn in enumerate(chat.messages) if turn.weight == 10]


def _names_in(text: str) -> list[str]:
    """All runs of up to four words."""
    words = re.findall(r"\w+", text)
    return [" ".join(words[i : i + length]) for i in range(len(words)) for length in (1, 2, 3, 4)]


def test_only_how_sure_is_learned_never_the_guess() -> None:
    for chat, place in _practice(300):
        if SURE.search(chat.messages[place - 1].text):
            reply = chat.messages[place - 2]
            assert (reply.role, reply.weight) == ("assistant", 0)


def test_certainty_is_never_practised_on_what_it_is_measured_on() -> None:
    kept = {BOOK.entities[i].name.lower() for split in ("validation", "test") for i in positions(split)}
    for chat, place in _practice(500):
        asked = " ".join(turn.text.lower() for turn in chat.messages[max(0, place - 3) : place])
        assert not kept & set(_names_in(asked)), asked


def test_practised_certainty_is_about_right_on_strangers() -> None:
    # Whoever knows nothing is right as often as the practice says: facts of strangers agree with what is told of them.
    generator = random.Random(6)
    names = NameMaker(generator)
    sums: Counter[int] = Counter()
    counts: Counter[int] = Counter()
    for _ in range(20_000):
        entity = stranger(names, generator)
        attribute = entity.kind.attributes[generator.choice(entity.kind.closed_book)]
        told = likely_value(entity, attribute, names, generator)
        sure = belief(entity, attribute, told, 0.0)
        counts[round(sure * 20)] += 1
        sums[round(sure * 20)] += entity.facts[attribute.key] == told
    for grade, count in counts.items():
        if count > 300:
            assert sums[grade] / count == pytest.approx(grade / 20, abs=0.06)


def _made(seed: int) -> tuple[Entity, Claim]:
    generator = random.Random(seed)
    entity = make_entity(generator.choice(list(kinds().values())), NameMaker(generator), generator)
    attribute = generator.choice(list(entity.kind.attributes.values()))
    return entity, Claim(entity, attribute, entity.facts[attribute.key])


@pytest.mark.parametrize("held_out", [False, True])
def test_the_told_value_is_found_in_every_wording(held_out: bool) -> None:
    for seed in range(2000):
        _, claim = _made(seed)
        for text in (
            claim_text(claim, random.Random(seed), held_out),
            reply_text([claim], random.Random(seed), held_out),
        ):
            found = told_value(text, claim.attribute)
            assert found is not None, text
            assert found.value.lower() == claim.value.lower(), text
            assert text[found.start : found.end] == found.value


def test_a_wrong_value_is_told_as_such_and_no_value_is_none() -> None:
    for seed in range(500):
        _, claim = _made(seed)
        generator = random.Random(seed)
        wrong = Claim(
            claim.entity, claim.attribute, other_value(claim.attribute, claim.value, NameMaker(generator), generator)
        )
        found = told_value(claim_text(wrong, generator, False), claim.attribute)
        assert found is not None
        assert found.value.lower() == wrong.value.lower() != claim.value.lower()
        assert told_value("The documents do not say that.", claim.attribute) is None


def test_every_statement_with_an_article_is_understood() -> None:
    animal = kinds()["animal"]
    entity = Entity(animal, "the Velo finch", "it", "the {N} finch")
    for value in ("orange", "red"):
        text = fill("{e} has a {v} back.", entity, value)
        found = told_value(text, animal.attributes["colour"])
        assert found is not None, text
        assert found.value == value


def _exam_folder(tmp_path: Path) -> Path:
    exam = [
        {
            "instruction": f"Please choose the correct answer to the question: What is item {i}?\n\nAnswer1: red "
            "Answer2: a blue one Answer3: green\n\nAnswer format: answer1/answer2/answer3",
            "answer": f"answer{i % 3 + 1}",
        }
        for i in range(200)
    ]
    yes_no = [
        {
            "instruction": f"Please answer the following question with true or false, question: is it {i}?\n\nAnswer"
            " format: true/false",
            "answer": "true" if i % 3 else "false",
        }
        for i in range(200)
    ]
    for name, rows in (("openbookqa", exam), ("boolq", yes_no)):
        (tmp_path / "commonsense" / name).mkdir(parents=True)
        (tmp_path / "commonsense" / name / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    return tmp_path


def test_real_questions_are_read_as_they_are(tmp_path: Path) -> None:
    found = choices(_exam_folder(tmp_path))
    assert len(found) == 400
    assert found[4].question == "What is item 4?"
    assert (found[4].replies, found[4].right) == (("red", "a blue one", "green"), 1)
    assert (found[200].question, found[200].replies[found[200].right]) == ("is it 0?", "False.")
    assert found[201].replies[found[201].right] == "True."
    assert found[201].asked(random.Random(1)) == "is it 1? True or false?"
    asked = found[4].asked(random.Random(1))
    assert sorted(asked.removeprefix("What is item 4? ").removesuffix("?").split("; ")) == sorted(found[4].replies)


def test_the_base_reads_half_of_the_training_side_and_nothing_else(tmp_path: Path) -> None:
    data = _exam_folder(tmp_path)
    read = {choice.question for choice in read_choices(data)}
    trained = {choice.question for choice in choices(data) if choice.split == "train"}
    assert read < trained
    assert len(read) == pytest.approx(len(trained) / 2, rel=0.2)
    hand = writer(1, data)
    for _ in range(300):
        chat = reading.choice_chat(hand)
        assert chat is not None
        question, reply = chat.messages
        (item,) = (choice for choice in choices(data) if question.text.startswith(choice.question))
        assert item.question in read
        assert reply.text == item.replies[item.right]


def test_without_real_data_there_are_no_real_questions(tmp_path: Path) -> None:
    assert reading.choice_chat(writer()) is None
    assert reading.choice_chat(writer(1, tmp_path)) is None


def test_documents_speak_of_nothing_in_the_book() -> None:
    words = {word_of(entity) for entity in BOOK.entities}
    for seed in range(300):
        generator = random.Random(seed)
        scene = make_scene(NameMaker(generator), generator)
        text = " ".join(f"{document.title} {document.text}" for document in scene.documents())
        assert not words & set(re.findall(r"[A-Z][a-z]+", text))


def test_questions_name_the_entity() -> None:
    entity = BOOK.entities[0]
    attribute = entity.kind.attributes[entity.kind.closed_book[0]]
    for seed in range(50):
        assert entity.name.lower() in question_text(entity, attribute, random.Random(seed), False).lower()
