"""The order of examples, and which answers count as written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from alora_cpp.train.examples import TokenizedExample

if TYPE_CHECKING:
    import torch

    from alora_cpp.train.batches import collate, draw_batches
    from alora_cpp.train.written_answers import WrittenAnswers
else:
    torch = pytest.importorskip("torch")
    from alora_cpp.train.batches import collate, draw_batches
    from alora_cpp.train.written_answers import WrittenAnswers

pytestmark = pytest.mark.oracle


def test_every_example_once_an_epoch() -> None:
    lengths = [10 + i * 7 % 100 for i in range(101)]
    drawn = draw_batches(lengths, batch_size=8, epochs=3, seed=1)
    assert len(drawn) == 3 * 13
    epochs = [drawn[i : i + 13] for i in range(0, 39, 13)]
    for epoch in epochs:
        assert sorted(index for batch in epoch for index in batch) == list(range(101))
    assert epochs[0] != epochs[1]
    assert drawn == draw_batches(lengths, batch_size=8, epochs=3, seed=1)
    assert drawn != draw_batches(lengths, batch_size=8, epochs=3, seed=2)


def test_batches_are_of_like_length() -> None:
    lengths = [10 + i * 7 % 100 for i in range(256)]
    drawn = draw_batches(lengths, batch_size=8, epochs=1, seed=1)
    spread = max(max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in drawn)
    assert spread <= 5
    # But shorter ones do not come first.
    shortest = [min(lengths[i] for i in batch) for batch in drawn]
    assert shortest != sorted(shortest)


def logits_of(*best: int) -> torch.Tensor:
    """Rows in which a token is the most probable, and the ones near it follow."""
    return -(torch.arange(20)[None] - torch.tensor(best)[:, None]).abs().float()


@pytest.mark.parametrize(
    ("listed", "best", "right"),
    [
        ((), (5, 6, 0, 7, 0), 2),
        ((), (5, 6, 0, 8, 0), 1),
        ((), (5, 9, 0, 7, 0), 1),
        # Token 9 is none that may be written; of those that may, the nearest is.
        (((5, 6), (7,)), (5, 9, 0, 9, 0), 2),
        (((5, 6), (7,), (10,)), (5, 6, 0, 9, 0), 1),
        (((5, 6), (5, 8), (7,)), (5, 8, 0, 7, 0), 1),
    ],
)
def test_written_answers(listed: tuple[tuple[int, ...], ...], best: tuple[int, ...], right: int) -> None:
    """Two examples, whose answers are 5 6 and 7, each with the token that ends it."""
    batch = collate([TokenizedExample((1, 2), (5, 6, 0), 1, 1.0), TokenizedExample((1,), (7, 0), 0, 1.0)])["batch"]
    targets = torch.tensor([5, 6, 0, 7, 0])
    assert WrittenAnswers(listed).count_right(batch, logits_of(*best), targets) == right
