"""The fleet against transformers and PEFT, and what must hold whoever else is in it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peft")
import torch
from peft import PeftModel
from transformers import GraniteForCausalLM

from training.examples import Rows
from training.fleet.answers import completions, label_shares
from training.fleet.batches import DeviceRows
from training.fleet.granite import Granite, load_granite
from training.fleet.group import Suffixes, read_prefix
from training.fleet.member import Member
from training.fleet.optimizer import AdamW
from training.fleet.peft_folder import save_adapter
from training.fleet.train import Best, Fleet, Schedule, train_fleet
from training_models import save_tiny_granite

pytestmark = pytest.mark.oracle

NEWLINE, END, YES, NO = 1, 2, 3, 4
CALL, LONG_CALL = (5, 6, 7), (5, 8, 8, 7)
SENTENCES = {"Y": [9, YES, 10, END], "N": [9, NO, END]}
CPU = torch.device("cpu")


def letter(label: str) -> list[int]:
    return [{"Y": YES, "N": NO}[label], END]


MEMBERS = [
    Member("lora 3", CALL, NEWLINE, letter, kind="lora", rank=3),
    Member("late 4", CALL, NEWLINE, letter, rank=4),
    Member("lora 5", LONG_CALL, NEWLINE, letter, kind="lora", rank=5, rate=3e-3),
    Member("end 2", CALL, NEWLINE, letter, activation="end", rank=2),
    Member("empty 6", (), NEWLINE, letter, activation="empty", rank=6),
    Member("sentence 2", LONG_CALL, NEWLINE, SENTENCES.__getitem__, rank=2),
]
LETTERS = [member.name for member in MEMBERS if member.complete is letter]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Granite of random weights."""
    folder = tmp_path_factory.mktemp("base")
    save_tiny_granite(folder, vocabulary=48)
    return folder


@pytest.fixture(scope="module")
def granite(base: Path) -> Granite:
    return load_granite(base, CPU, torch.float32)


def some_rows(count: int, seed: int = 1) -> Rows:
    """Conversations of very different lengths; those with tokens above 20 are to be called Y."""
    generator = random.Random(seed)
    conversations, said = [], []
    for _ in range(count):
        # Tokens of the invocations occur in the text as well: only their last occurrence counts.
        label = generator.choice("YN")
        kinds = [range(3, 20), range(21, 38) if label == "Y" else range(3, 20)]
        ids = [generator.choice(kinds[place % 2]) for place in range(generator.choice((4, 9, 30, 62)))]
        conversations.append([*ids, NEWLINE])
        said.append(label)
    return Rows.of(conversations, said, ("Y", "N"))


def conversation(rows: Rows, row: int) -> list[int]:
    return rows.ids[rows.starts[row] : rows.starts[row + 1]].tolist()


@pytest.fixture
def random_fleet(granite: Granite) -> Fleet:
    """Members whose B is not zero."""
    fleet = Fleet(granite, MEMBERS)
    torch.manual_seed(2)
    for group in fleet.groups:
        for b in group.adapters.b:
            for position, member in enumerate(group.members):
                b.data[:, position, : member.rank].normal_(std=0.3)
    return fleet


def with_peft(base: Path, fleet: Fleet, member: Member, folder: Path) -> PeftModel:
    """The member as PEFT reads it from its folder."""
    group, position = fleet.place(member.name)
    save_adapter(group, position, "tiny", folder)
    return PeftModel.from_pretrained(GraniteForCausalLM.from_pretrained(base, dtype=torch.float32), folder).eval()


def logits_of(model: PeftModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return logits


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_logits_equal_peft(base: Path, random_fleet: Fleet, tmp_path: Path, member: Member) -> None:
    rows = some_rows(12)
    group, position = random_fleet.place(member.name)
    suffixes = Suffixes(group.members, rows.labels, CPU)
    batch = DeviceRows(rows, CPU).batch(range(12))
    suffix = group.suffix(batch, suffixes.read[:, batch.labels])
    with torch.no_grad():
        hidden = group.hidden(random_fleet.granite, batch, suffix, read_prefix(random_fleet.granite, batch))
        ours = random_fleet.granite.logits(hidden[position])
    model = with_peft(base, random_fleet, member, tmp_path)
    for row in range(12):
        before = conversation(rows, row)
        written = member.complete(rows.labels[rows.label[row]])[:-1]
        theirs = logits_of(model, [*before, *member.invocation, *written])[len(before) - 1 :]
        np.testing.assert_allclose(ours[row, : len(theirs)], theirs, atol=1e-4)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_answers_equal_peft(base: Path, random_fleet: Fleet, tmp_path: Path, member: Member) -> None:
    rows = some_rows(6, seed=2)
    model = with_peft(base, random_fleet, member, tmp_path)
    written = completions(random_fleet, rows, END, limit=4)[MEMBERS.index(member)]
    for row in range(6):
        ids = [*conversation(rows, row), *member.invocation]
        theirs: list[int] = []
        while len(theirs) < 4 and END not in theirs:
            theirs.append(int(logits_of(model, [*ids, *theirs])[-1].argmax()))
        assert written[row] == [token for token in theirs if token != END]


def test_label_shares_equal_peft(base: Path, random_fleet: Fleet, tmp_path: Path) -> None:
    rows = some_rows(6, seed=3)
    shares = label_shares(random_fleet.only(LETTERS, random_fleet.granite), rows)
    for position, name in enumerate(LETTERS):
        member = next(member for member in MEMBERS if member.name == name)
        model = with_peft(base, random_fleet, member, tmp_path / name)
        for row in range(6):
            logits = logits_of(model, [*conversation(rows, row), *member.invocation])[-1]
            np.testing.assert_allclose(shares[position, row], torch.softmax(logits[[YES, NO]], -1), atol=1e-5)


def test_labels_that_begin_alike_are_refused(random_fleet: Fleet) -> None:
    with pytest.raises(ValueError, match="sentence 2: completions begin with the same token"):
        label_shares(random_fleet, some_rows(2))


def test_it_learns(granite: Granite) -> None:
    members = [dataclasses.replace(member, rate=0.02) for member in MEMBERS]
    untrained = Fleet(granite, members).losses(DeviceRows(some_rows(60, 5), CPU), Schedule()).tolist()
    fleet, losses = train_fleet(granite, members, some_rows(1200), some_rows(60, 5), Schedule(epochs=3, rows=50))
    rows = some_rows(200, seed=6)
    right = (label_shares(fleet.only(LETTERS, granite), rows).argmax(-1) == rows.label).mean(1)
    assert dict(zip(LETTERS, right > 0.75, strict=True)) == dict.fromkeys(LETTERS, True)
    assert all(losses[name] < first for name, first in zip(losses, untrained, strict=True))


def test_padding_ranks_stay_zero(granite: Granite) -> None:
    fleet, _ = train_fleet(granite, MEMBERS, some_rows(100), some_rows(10), Schedule(rows=20))
    for group in fleet.groups:
        for position, member in enumerate(group.members):
            a = group.adapters.a.detach().unflatten(-1, (3, -1))[:, position]
            assert not a[..., member.rank :].any()
            assert a[..., : member.rank].any()
            for b in group.adapters.b:
                assert not b.detach()[:, position, member.rank :].any()
                assert b.detach()[:, position, : member.rank].any()


def test_company_changes_nothing(granite: Granite) -> None:
    rows, judged, schedule = some_rows(120), some_rows(20, 5), Schedule(rows=16)
    diverging = dataclasses.replace(MEMBERS[1], name="diverging", rate=1e30)
    together, _ = train_fleet(granite, [*MEMBERS, diverging], rows, judged, schedule)
    for member in MEMBERS[1:3]:
        alone, _ = train_fleet(granite, [member], rows, judged, schedule)
        (group, position), (single, _) = together.place(member.name), alone.place(member.name)
        for layer in range(3):
            for name, (a, b) in group.adapters.matrices(position, layer).items():
                a_alone, b_alone = single.adapters.matrices(0, layer)[name]
                torch.testing.assert_close(a, a_alone, atol=1e-5, rtol=1e-3)
                torch.testing.assert_close(b, b_alone, atol=1e-5, rtol=1e-3)


def test_the_optimizer_treats_each_member_as_torch_would() -> None:
    rates = [1e-2, 3e-3]
    torch.manual_seed(3)
    stacks = [torch.randn(2, 2, 4, 3, requires_grad=True), torch.randn(2, 2, 3, 5, requires_grad=True)]
    alone = [[stack.detach()[:, member].clone().requires_grad_() for stack in stacks] for member in (0, 1)]
    theirs = [
        torch.optim.AdamW(own, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        for own, rate in zip(alone, rates, strict=True)
    ]
    ours = AdamW(stacks, torch.tensor(rates))
    for step in range(12):
        for place, stack in enumerate(stacks):
            # The second member's gradients are clipped at every other step, the first one's never.
            gradient = torch.randn_like(stack) * torch.tensor([0.01, 3.0 if step % 2 else 0.02])[:, None, None]
            stack.grad = gradient
            for member in (0, 1):
                alone[member][place].grad = gradient[:, member].clone()
        for own, optimizer in zip(alone, theirs, strict=True):
            torch.nn.utils.clip_grad_norm_(own, 1.0)
            optimizer.step()
        ours.step(1.0)
    for place, stack in enumerate(stacks):
        for member in (0, 1):
            torch.testing.assert_close(stack.detach()[:, member], alone[member][place].detach(), atol=1e-5, rtol=1e-4)


def test_each_member_keeps_its_best_weights(granite: Granite) -> None:
    fleet = Fleet(granite, MEMBERS[:3])  # LoRA, aLoRA, LoRA
    best = Best(fleet)
    for value, losses in ((1.0, [1.0, 9.0, 5.0]), (2.0, [2.0, 3.0, 4.0]), (3.0, [float("nan"), 8.0, 3.0])):
        for group in fleet.groups:
            for parameter in group.adapters.parameters:
                parameter.data.fill_(value)
        best.look(torch.tensor(losses))
    assert best.restore() == {"lora 3": 1.0, "late 4": 3.0, "lora 5": 3.0}
    for name, value in (("lora 3", 1.0), ("late 4", 2.0), ("lora 5", 3.0)):
        group, position = fleet.place(name)
        assert all((parameter[:, position] == value).all() for parameter in group.adapters.parameters)
