"""Which answers a model would write itself, choosing the most probable token at every place."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from alora_cpp.train.batches import Batch


class WrittenAnswers:
    """Compares what a model would write with what it should; among listed answers it chooses only what they allow."""

    def __init__(self, listed: Sequence[Sequence[int]]) -> None:
        """Takes the listed answers.

        Args:
            listed: Their tokens; none where any text is an answer.
        """
        self._next: dict[tuple[int, ...], list[int]] = {}
        for tokens in listed:
            for at, token in enumerate(tokens):
                self._next.setdefault(tuple(tokens[:at]), []).append(token)

    def count_right(self, batch: Batch, logits: torch.Tensor, targets: torch.Tensor) -> int:
        """Counts the answers that are right throughout. The token that ends an answer does not count.

        Args:
            batch: The examples.
            logits: As `answer_logits` gives them.
            targets: The same.
        """
        lengths = (batch.targets >= 0).sum(1).tolist()
        rows = zip(torch.split(logits, lengths), torch.split(targets, lengths), strict=True)
        return sum(self._is_right(scores[:-1], answer[:-1].tolist()) for scores, answer in rows)

    def _is_right(self, scores: torch.Tensor, answer: list[int]) -> bool:
        if not self._next:
            return bool(scores.argmax(-1).tolist() == answer)
        for at, token in enumerate(answer):
            allowed = self._next[tuple(answer[:at])]
            if allowed[int(scores[at, allowed].argmax())] != token:
                return False
        return True
