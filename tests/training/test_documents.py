"""Documents and what is said of them: labels hold in the documents as they are rendered, and sides share nothing."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from made_up_data import SYLLABLES, town_text, town_title, write_data
from training.answering import asked_of_scene
from training.chat_format import Conversation, Document
from training.reading import checking, documents, follow_ups
from training.reading.writer import Writer
from training.real_documents import passages, questions, rewrites
from training.real_replies import altered_reply, altered_sentence, strangers_reply, strangers_sentence
from training.retelling import retold
from training.rewriting import follow_up
from training.scene_replies import Judged, scene_replies
from training.scenes import Scene, false_claim, make_scene, near_name, true_claim, unstated_keys
from training.splits import Split
from training.statements import alteration, disguised, read_passage, read_passages, read_sentence
from training.tasks import answerability, hallucination, query_rewrite
from training.tasks.example import Example, Sources
from training.world import kinds

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
OWN_WORD = re.compile(rf"\b(?:{'|'.join(SYLLABLES)}){{4}}\b", re.IGNORECASE)
TASKS = (hallucination, answerability, query_rewrite)
GENERATED = (
    documents.document_chat,
    checking.checking_chat,
    follow_ups.answerability_chat,
    follow_ups.rewrite_chat,
)
REAL = (documents.grounded_chat, checking.real_checking_chat, follow_ups.real_answerability_chat)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def writer(seed: int, data: Path | None = None, split: Split = "train") -> Writer:
    return Writer(random.Random(seed), data, split)


def shown(conversation: Conversation) -> str:
    return "\n".join(document.text for document in conversation.documents)


# Scenes


def page_of(scene: Scene, index: int, shown: list[Document]) -> str:
    """What the documents say of one entity: its document, or its row of a table."""
    number = next(i for i, page in enumerate(scene.pages) if index in page.indices)
    page, text = scene.pages[number], shown[number].text
    if page.layout == "table":
        return text.split("\n")[1 + page.indices.index(index)]
    return f"{shown[number].title}\n{text}"


@pytest.mark.parametrize("seed", range(200))
def test_documents_state_their_facts_and_what_is_hidden_is_gone(seed: int) -> None:
    hand = writer(seed)
    scene = make_scene(hand.names, hand.random)
    for index, entity in enumerate(scene.entities):
        whole = page_of(scene, index, scene.documents()).lower()
        assert entity.name.lower() in whole
        for key in scene.stated[index]:
            value = entity.facts[key].lower()
            assert value in whole
            without = page_of(scene, index, scene.documents(hidden=(index, key))).lower()
            assert without.count(value) < whole.count(value)


@pytest.mark.parametrize("seed", range(200))
def test_a_false_claim_is_false_where_its_entity_is_spoken_of(seed: int) -> None:
    hand = writer(seed)
    scene = make_scene(hand.names, hand.random)
    for index in range(len(scene.entities)):
        for key in scene.stated[index]:
            right = true_claim(scene, index, key)
            wrong = false_claim(scene, right, hand.names, hand.random)
            assert right.is_true
            assert not wrong.is_true
            said = page_of(scene, index, scene.documents())
            for template in right.attribute.statements:
                sentence = template.replace("{e}", wrong.entity.name).replace("{v}", wrong.value)
                assert sentence.lower() not in said.lower()
        assert not set(unstated_keys(scene, index)) & set(scene.stated[index])


def test_a_near_name_keeps_all_but_one_word() -> None:
    hand = writer(1)
    for name in ("the Museum of Arbol", "Hotel Breston", "Anna Kesto", "Drelton Works", "the Quelbra"):
        for _ in range(20):
            near = near_name(name, hand.names, hand.random)
            changed = [a for a, b in zip(name.split(), near.split(), strict=True) if a != b]
            assert len(changed) == 1
            assert changed[0] not in ("the", "Museum", "of", "Hotel", "Works")


@pytest.mark.parametrize("new_wording", [False, True])
def test_replies_about_scenes_come_right_and_wrong(new_wording: bool) -> None:
    hand = writer(3)
    for _ in range(300):
        judged = scene_replies(hand, new_wording)
        if len(judged) > 1:
            assert sum(supported for _, supported in judged) * 2 == len(judged)
        by_reply: dict[str, set[bool]] = {}
        for conversation, supported in judged:
            by_reply.setdefault(conversation.messages[-1].text, set()).add(supported)
            assert [m.role for m in conversation.messages][-2:] == ["user", "assistant"]
        if len(judged) == 4 and judged[0][0].documents != judged[2][0].documents:
            assert all(labels == {True, False} for labels in by_reply.values())


# Real pages


def difference(one: str, other: str) -> tuple[str, str]:
    """The place where two texts differ and thirty letters before and after it, of either text."""
    before = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    ends = zip(reversed(one[before:]), reversed(other[before:]), strict=False)
    after = next((i for i, (a, b) in enumerate(ends) if a != b), min(len(one), len(other)) - before)
    first, second = (text[max(0, before - 30) : len(text) - after + 30] for text in (one, other))
    return first, second


def supported_by_gap(conversation: Conversation) -> bool | None:
    """For a question with a gap, whether the documents have the sentence that the reply completes."""
    question = conversation.messages[-2].text
    if "____" not in question:
        return None
    sentence = question.split("? " if "? " in question else ": ", 1)[1]
    return sentence.replace("____", conversation.messages[-1].text) in shown(conversation)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("new_wording", [False, True])
def test_an_altered_sentence_is_what_the_documents_do_not_say(data: Path, split: Split, new_wording: bool) -> None:
    hand = writer(5, data, split)
    seen = 0
    for _ in range(200):
        judged = altered_sentence(hand, hand.random.choice(read_passages(data, split)), new_wording)
        for (right, is_right), (wrong, is_wrong) in zip(judged[::2], judged[1::2], strict=True):
            assert (is_right, is_wrong) == (True, False)
            assert right.documents == wrong.documents
            assert right.messages[:-1] == wrong.messages[:-1]
            if supported_by_gap(right) is not None:
                assert (supported_by_gap(right), supported_by_gap(wrong)) == (True, False)
                continue
            told, told_wrong = difference(right.messages[-1].text, wrong.messages[-1].text)
            # What was put before a sentence, or cut from it, can reach into the letters before and after the change.
            seen += told in shown(right)
            assert told_wrong not in shown(wrong)
        if judged:
            assert {c.messages[-1].text for c, _ in judged[:2]} == {c.messages[-1].text for c, _ in judged[2:]}
    assert seen > 150


def test_a_strangers_words_are_not_in_the_documents(data: Path) -> None:
    hand = writer(6, data)
    items = [item for item in questions(data, "train") if item.reply]
    for _ in range(100):
        for conversation, supported in strangers_sentence(hand, hand.random.choice(read_passages(data, "train"))):
            assert (own_words(conversation.messages[-1].text) <= own_words(shown(conversation))) == supported
        for conversation, supported in strangers_reply(hand, hand.random.choice(items), items):
            assert (own_words(conversation.messages[-1].text) <= own_words(shown(conversation))) == supported


def own_words(text: str) -> set[str]:
    """The words that are of one hall alone."""
    return {word.lower() for word in re.findall(OWN_WORD, text)}


def figures(text: str) -> set[str]:
    return set(re.findall(r"\d+", text))


def test_an_altered_reply_is_right_over_documents_altered_alike(data: Path) -> None:
    hand = writer(7, data)
    fours = 0
    for item in [item for item in questions(data, "train") if item.reply]:
        judged = altered_reply(hand, item)
        assert [supported for _, supported in judged] in ([], [True, False], [True, False, True, False])
        for conversation, supported in judged:
            if len(judged) == 4:
                assert not supported or figures(conversation.messages[-1].text) <= figures(shown(conversation))
        fours += len(judged) == 4
    assert fours > 20


@pytest.mark.parametrize(
    ("text", "sorts"),
    [
        ("The hall was built in 1623 by Thomas Carrick.", {"year": "1623", "name 1": "Thomas Carrick"}),
        ("It opens every Monday in March at 4,500 feet.", {"day": "Monday", "month": "March", "number 5": "4,500"}),
        ("The northern wing has seven doors.", {"opposite": "northern", "count": "seven", "word -s": "doors"}),
        ("They were not told before.", {"not": "were not", "opposite": "before"}),
    ],
)
def test_places_that_can_be_altered(text: str, sorts: dict[str, str]) -> None:
    found = {site.sort: text[site.start : site.end] for site in read_sentence(text).sites}
    assert found.items() >= sorts.items()


def test_an_alteration_is_made_wherever_the_documents_have_the_name() -> None:
    text = "The hall of Carrick was built in 1623. Many came to see Carrick rather than Denholm before 1623."
    document = Document("Hall of Carrick", text)
    page = read_passage(document, "made up")
    changes = [alteration(page.sentences[0], page, None, "train", random.Random(seed)) for seed in range(300)]
    facts = [change for change in changes if change and change.is_fact]
    assert {change.old for change in facts} == {"Carrick", "1623"}
    for change in facts:
        (changed,) = change.in_documents([document])
        assert changed.title == document.title.replace(change.old, change.new)
        assert changed.text == document.text.replace(change.old, change.new)


def test_another_name_everywhere_and_nothing_else(data: Path) -> None:
    hand = writer(8, data)
    for page in read_passages(data, "train")[:40]:
        other = disguised(page, hand.names)
        words, others = page.document.text.split(), other.document.text.split()
        changed = [(a, b) for a, b in zip(words, others, strict=True) if a != b]
        assert all(a[0].isupper() and b[0].isupper() for a, b in changed)
        assert len({a.strip(".,") for a, _ in changed}) == len(set(changed) and {b.strip(".,") for _, b in changed})


@pytest.mark.parametrize("style", range(100))
def test_versions_are_told_in_one_way_and_stay_apart(style: int) -> None:
    versions = (
        "In 1804, Thomas bought the hall (a ruin), which was empty.",
        "In 1804, Robert bought the hall (a ruin), which was empty.",
    )
    one, other = retold(versions, style)
    assert one != other == one.replace("Thomas", "Robert")


# What the base model reads


@pytest.mark.parametrize("make", [checking.real_checking_chat, checking.checking_chat])
def test_a_verdict_agrees_with_the_documents(data: Path, make: Callable[[Writer], Conversation | None]) -> None:
    hand = writer(9, data)
    verdicts = {True: 0, False: 0}
    for _ in range(300):
        conversation = make(hand)
        assert conversation is not None
        for position, message in enumerate(conversation.messages):
            if message.weight != 10:
                continue
            yes = message.text.startswith("Yes")
            asked = conversation.messages[position - 1].text
            # Either the user makes the claim, in the turn that asks, or the assistant did, in the turn before.
            said = re.sub(r" (?:Is that|Do the|Does the)[^?]*\?$", "", asked)
            judged = conversation.messages[position - 1 - (said == asked)]
            said = judged.text if said == asked else said
            assert bool(judged.weight) == yes  # what is wrong is not learned
            if len(said) > 30 and said in shown(conversation):
                assert yes, (said, shown(conversation))
            verdicts[yes] += 1
    assert min(verdicts.values()) > 0.35 * sum(verdicts.values())


def test_wrong_replies_are_read_and_not_learned(data: Path) -> None:
    hand = writer(10, data)
    for _ in range(300):
        for make in (*GENERATED, *REAL):
            conversation = make(hand)
            assert conversation is not None
            assert conversation.messages
            for message, reaction in zip(conversation.messages, conversation.messages[1:], strict=False):
                if reaction.text in checking._OBJECT:
                    assert message.weight == 0


# Answerability and query rewrite


@pytest.mark.parametrize("seed", range(300))
def test_an_answerable_question_is_about_what_is_stated(seed: int) -> None:
    hand = writer(seed)
    scene = make_scene(hand.names, hand.random)
    asked = asked_of_scene(hand, scene)
    assert [answerable for *_, answerable in asked] in ([True], [True, False])
    for question, pages, answerable in asked:
        if answerable:
            assert any(entity.name.lower() in question.lower() for entity in scene.entities)
        elif pages == scene.documents():
            about = [i for i, e in enumerate(scene.entities) if e.name.lower() in question.lower()]
            templates = {
                template.replace("{e}", scene.entities[i].name).lower().strip("?")
                for i in about
                for key in scene.stated[i]
                for template in scene.entities[i].kind.attributes[key].questions
            }
            assert question.lower().strip("?") not in templates


@pytest.mark.parametrize("new_wording", [False, True])
def test_a_follow_up_stands_alone_once_rewritten(new_wording: bool) -> None:
    hand = writer(11)
    same = 0
    for _ in range(500):
        conversation, standalone = follow_up(hand, new_wording)
        asked = conversation.messages[-1]
        assert asked.role == "user"
        same += asked.text == standalone
        assert re.search(r"[A-Z]\w+ [A-Z]|\b[A-Z]\w{3,}", standalone[1:])  # it names something
        assert not re.search(r"\b(he|she|him|that one)\b", standalone)
    assert 100 < same < 350


# Data sets


def test_the_data_sets_are_read_as_they_are_labelled(data: Path) -> None:
    everything = [item for split in SPLITS for item in questions(data, split)]
    by_question = {(item.source, item.messages[-1].text, item.messages[0].text): item for item in everything}
    built = by_question["clapnq", "when was hall number 7 built", "when was hall number 7 built"]
    assert (built.answerable, built.reply) == (True, "It was built in 1107, as bababami Hall.")
    assert built.documents == (Document(town_title(7), town_text(7)),)
    owned = by_question["clapnq", "who owns hall number 1007 now", "who owns hall number 1007 now"]
    assert (owned.answerable, owned.reply) == (False, None)
    rooms = by_question["mt-rag", "How many rooms are open?", "What is hall number 2000?"]
    assert rooms.reply == "The fibababa owners open 2020 rooms."
    assert rooms.documents == (Document(town_title(2000), town_text(2000)),)
    nothing = by_question["mt-rag", "How many rooms are open?", "What is hall number 2001?"]
    assert (nothing.answerable, nothing.documents) == (False, ())
    for unfair in (2002, 2003):
        assert ("mt-rag", "How many rooms are open?", f"What is hall number {unfair}?") not in by_question
    many = "How many rooms can I see in number 4005?"
    seen = by_question["doc2dial", many, many]
    assert seen.reply == "Every January the hubabaka owners open 4025 hubabaka rooms of the hubabaka house to Hubabaka."
    rewritten = {item.questions: item.standalone for split in SPLITS for item in rewrites(data, split)}
    assert rewritten["Who built gobabahu hall?", "And when?"] == "When was gobabahu hall built?"


def test_sides_share_no_document_no_question_and_no_conversation(data: Path) -> None:
    titles, opening, first = ({split: set[str]() for split in SPLITS} for _ in range(3))
    for split in SPLITS:
        titles[split] |= {document.title for document, source in passages(data, split) if source != "novel"}
        for item in questions(data, split):
            titles[split] |= {document.title for document in item.documents}
            opening[split].add(item.messages[0].text)
        first[split] |= {item.questions[0] for item in rewrites(data, split)}
        assert min(len(titles[split]), len(opening[split]), len(first[split])) > 0
    for parts in (titles, opening, first):
        assert sum(map(len, parts.values())) == len(set.union(*parts.values()))
    novel = {split: [1 for _, source in passages(data, split) if source == "novel"] for split in SPLITS}
    assert {split for split, pages in novel.items() if pages} == {"train"}


# Tasks


def key(example: Example) -> tuple[str, str, str]:
    return example.label, example.origin, repr(dataclasses.asdict(example.conversation))


@pytest.mark.parametrize("task", TASKS)
def test_the_same_examples_every_time(task: object, data: Path) -> None:
    sources = Sources(data)
    for _ in range(2):
        random.seed()
        once, again = (list(islice(task.training_examples("a", sources), 200)) for _ in range(2))  # type: ignore[attr-defined]
        assert [*map(key, once)] == [*map(key, again)]
    other = list(islice(task.training_examples("b", sources), 200))  # type: ignore[attr-defined]
    assert [*map(key, once)] != [*map(key, other)]
    measured = [task.measured_examples(split, sources, 60) for split in ("validation", "test", "test")]  # type: ignore[attr-defined]
    assert [*map(key, measured[1])] == [*map(key, measured[2])] != [*map(key, measured[0])]


@pytest.mark.parametrize("task", TASKS)
def test_no_conversation_has_two_labels(task: object, data: Path) -> None:
    labels: dict[str, set[str]] = {}
    for example in islice(task.training_examples("c", Sources(data)), 4000):  # type: ignore[attr-defined]
        labels.setdefault(key(example)[2], set()).add(example.label)
    assert {len(found) for found in labels.values()} == {1}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("with_data", [False, True])
def test_what_is_measured(task: object, with_data: bool, data: Path) -> None:
    sources = Sources(data if with_data else None)
    found = task.measured_examples("test", sources, 100)  # type: ignore[attr-defined]
    origins = [example.origin for example in found]
    assert origins[:100] == ["generated"] * 50 + ["generated, new wording"] * 50
    assert bool(origins[100:]) == with_data
    assert all(origin.startswith("real: ") for origin in origins[100:])
    trained = list(islice(task.training_examples("a", sources), 2000))  # type: ignore[attr-defined]
    assert any(example.origin.startswith("real") for example in trained) == with_data
    if task is not query_rewrite:
        for examples in (found[:100], found[100:], trained):
            shares = [sum(e.label == label for e in examples) / len(examples) for label in {e.label for e in examples}]
            assert not examples or (len(shares) == 2 and min(shares) > 0.4)


@pytest.mark.parametrize("task", TASKS)
def test_nothing_that_is_measured_is_trained_on(task: object, data: Path) -> None:
    sources = Sources(data)
    hand = writer(12, data)
    read = [make(hand) for _ in range(300) for make in (*GENERATED, *REAL)]
    trained = [e.conversation for e in islice(task.training_examples("a", sources), 3000)]  # type: ignore[attr-defined]
    texts = "\n".join(turn.text for c in (*read, *trained) if c is not None for turn in c.turns())
    read_words = own_words(texts)
    for example in task.measured_examples("test", sources, 200):  # type: ignore[attr-defined]
        if example.origin.startswith("real"):
            words = own_words("\n".join(turn.text for turn in example.conversation.turns()))
            assert words
            assert not words & read_words
    for pattern in new_questions():
        assert not pattern.search(texts), pattern


def new_questions() -> list[re.Pattern[str]]:
    """The questions kept from training, where no other question could be taken for one of them."""
    attributes = [attribute for kind in kinds().values() for attribute in kind.attributes.values()]
    known = [question.replace("{e}", "the Xyz") for attribute in attributes for question in attribute.questions[:-1]]
    kept = [attribute.questions[-1].split("{e}") for attribute in attributes]
    patterns = [re.compile(rf"{re.escape(start)}[^?.\n]{{3,40}}{re.escape(end)}") for start, end in kept]
    return [pattern for pattern in patterns if not any(pattern.search(question) for question in known)]


@pytest.mark.parametrize("make", GENERATED)
def test_generated_sorts_need_no_data(make: Callable[[Writer], Conversation]) -> None:
    assert all(make(writer(seed)).messages for seed in range(50))


@pytest.mark.parametrize("make", REAL)
def test_real_sorts_say_when_there_is_no_data(make: Callable[[Writer], Conversation | None], tmp_path: Path) -> None:
    assert make(writer(1)) is None
    assert make(writer(1, tmp_path)) is None


def test_pairs_of_judged_replies_are_what_the_task_labels(data: Path) -> None:
    hand = writer(13, data)
    judged: list[Judged] = scene_replies(hand)
    examples = hallucination._examples(judged, "here")
    assert [example.label for example in examples] == ["N" if supported else "Y" for _, supported in judged]
