"""An intrinsic's answer being written, a token at a time, within what its `io.yaml` allows."""

from __future__ import annotations

import codecs

import numpy as np
from numpy.typing import NDArray

from alora_cpp.branch import Branch
from alora_cpp.chat.draft import Draft
from alora_cpp.constraint import Matcher
from alora_cpp.context import Context
from alora_cpp.generation import Generation
from alora_cpp.intrinsic import Intrinsic
from alora_cpp.io import AnswerToken

# For answers whose io.yaml gives no limit.
MAX_TOKENS = 512
# As many as vLLM is asked for by granite-common.
_N_TOP = 10


class Writing:
    """An answer on its way.

    Attributes:
        recorded: Each token's log-probability beside the most probable ones; kept where `compat` asks for it.
        is_done: Whether the answer is complete.
        is_truncated: Whether it was brought to its end because it got too long.
    """

    def __init__(self, context: Context, branch: Branch, intrinsic: Intrinsic) -> None:
        """Begins to write at the end of a branch.

        Raises:
            ArgumentError: A parameter is outside what it may be.
        """
        self._model = context.model
        self._context = context
        self._branch = branch
        self._parameters = intrinsic.config.parameters
        self._limit = self._parameters.max_tokens or MAX_TOKENS
        self._matcher = intrinsic.constraint.start() if intrinsic.constraint else None
        self._records = intrinsic.compat is not None
        self._draft = Draft(context.model)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._n_inserted = 0
        self._generation = self._generate()
        self.recorded: list[AnswerToken] = []
        self.is_done = False
        self.is_truncated = False
        self._force()

    def _generate(self) -> Generation:
        parameters = self._parameters
        return self._context.generation(
            [self._branch],
            max_tokens=2**30,
            temperature=parameters.temperature,
            top_p=parameters.top_p,
            top_k=parameters.top_k,
            min_p=parameters.min_p,
            seed=((parameters.seed or 0) + self._n_inserted) % 2**32,
            stop=() if self._matcher else parameters.stop,
        )

    @property
    def tokens(self) -> list[int]:
        """What was written."""
        return self._draft.tokens

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._draft.text if self._matcher is None else self._model.detokenize(self.tokens)

    def insert(self, tokens: list[int], text: str) -> None:
        """Puts in what another intrinsic answered."""
        self._branch.append(tokens)
        self._draft.flush()
        self._draft.write(tokens, text)
        # A new one: what it holds back or draws at random has nothing to do with what was before.
        self._n_inserted += 1
        self._generation = self._generate()

    def advance(self) -> None:
        """Takes the next token; what is queued on the branch must be computed.

        Raises:
            AnswerError: The constraint cannot be met.
            ContextFullError: No free cells are left.
            Cancelled, BackendError: As for `Context.decode`.
        """
        if self._matcher is not None:
            self.is_truncated = len(self.tokens) >= self._limit
            self._generation.restrict_next(self._allowed(self._matcher))
        row = self._branch.logits() if self._records else None
        (step,) = self._generation.next()
        is_end = self._model.is_end_of_generation(step.token)
        self._draft.write([] if is_end else [step.token], step.text)
        if row is not None and not is_end:
            self.recorded.append(self._record(row, step.token))
        self.is_done = step.finish is not None
        if self._matcher is not None:
            self._matcher.accept(step.token)
            self.is_done = self.is_done or self._matcher.ended
            self._force()
        elif not self.is_done and len(self.tokens) >= self._limit:
            self.is_done = self.is_truncated = True
            self._draft.flush()

    def _allowed(self, matcher: Matcher) -> NDArray[np.uint32]:
        """What may come next. At the limit the answer is brought to its end, but what it says is the model's choice."""
        if not self.is_truncated:
            return matcher.mask()
        choice = matcher.choice_mask()
        return matcher.landing_mask() if choice is None else choice

    def _force(self) -> None:
        """Appends what must come next, in one go. Where tokens are recorded each one needs its own row's logits."""
        if self._matcher is None or self._records or self.is_done:
            return
        forced = self._matcher.forced()
        if forced:
            self._branch.append(forced)
            self._draft.write(forced, self._model.detokenize(forced))
            for token in forced:
                self._matcher.accept(token)
            self.is_done = self._matcher.ended

    def _record(self, logits: NDArray[np.float32], token: int) -> AnswerToken:
        """A token as vLLM reports it: the model's own probabilities, whatever was allowed here."""
        row = logits.astype(np.float64)
        row -= row.max()
        row -= np.log(np.exp(row).sum())
        # A character of several tokens is the last one's, so that the texts make up the answer.
        text = self._decoder.decode(self._model._core.piece(token))
        top = [int(i) for i in np.argsort(-row, kind="stable")[:_N_TOP]]
        texts = [text if i == token else self._model.detokenize([i], special=True) for i in top]
        return AnswerToken(text, float(row[token]), tuple(zip(texts, map(float, row[top]), strict=True)))
