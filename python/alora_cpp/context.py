"""A context: the KV cache and compute buffers in which branches of one model live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from alora_cpp import _core
from alora_cpp.branch import Branch
from alora_cpp.generation import Generation, GenerationStep, stop_strings
from alora_cpp.scoring import Label, LabelScores, Scoring

if TYPE_CHECKING:
    from alora_cpp.model import Model


@dataclass(frozen=True)
class Counters:
    """What a context has done since it was made.

    Attributes:
        rows_decoded: Rows computed.
        batches: Passes through the model that took.
        graphs_reused: Passes that needed no new compute graph.
        compute_bytes: Size of the compute buffers now.
    """

    rows_decoded: int
    batches: int
    graphs_reused: int
    compute_bytes: int


class Context:
    """KV cells and compute buffers, made by `Model.context`.

    One thread at a time works on a context; calls from several threads are safe and wait for one another. `cancel` may
    be called while another call runs. Contexts of one model are independent.
    """

    def __init__(self, core: _core.Context, model: Model) -> None:
        self._core = core
        self._model = model

    @property
    def model(self) -> Model:
        """The model whose branches live here."""
        return self._model

    def branch(self) -> Branch:
        """An empty branch.

        Raises:
            ContextFullError: Too many branches are open.
            ClosedError: The context is closed.
        """
        return Branch(self._core.branch())

    def restore(self, saved: bytes) -> Branch:
        """A branch as `Branch.save` wrote it.

        Args:
            saved: Its bytes, from a context of the same model and KV type. They are checked for completeness, not for
                malice: take them from no stranger.

        Raises:
            ArgumentError: They are no saved branch, damaged, or from another model or cache.
            ContextFullError: There are not enough free cells, or too many branches are open.
            ClosedError: The context is closed.
        """
        return Branch(self._core.restore(saved))

    def decode(self) -> None:
        """Computes every queued row of every branch; rows of different adapters and of none share passes.

        Raises:
            Cancelled: `cancel` was called. Rows that were not computed stay queued.
            BackendError: The compute backend failed.
            ClosedError: The context is closed.
        """
        self._core.decode()

    def cancel(self) -> None:
        """Makes the running decode, or else the next one, raise Cancelled. Safe from any thread."""
        self._core.cancel()

    def resume(self) -> None:
        """Takes back a `cancel` that nothing has run into yet."""
        self._core.resume()

    def score(self, queries: Sequence[tuple[Branch, Sequence[Label]]]) -> list[LabelScores]:
        """Scores closed label sets at the ends of branches, all in one fused pass, queued rows included.

        Args:
            queries: Branches, each with its labels: text (tokenized without control tokens) or token ids.

        Raises:
            ArgumentError: No labels, an empty one, or the same one twice.
            ContextFullError: There are not enough free cells for the inner tokens of the labels.
            Cancelled, BackendError, ClosedError: As for `decode`.
        """
        scoring = self.queue_scores(queries)
        self.decode()
        return scoring.read()

    def queue_scores(self, queries: Sequence[tuple[Branch, Sequence[Label]]]) -> Scoring:
        """Queues the rows that `score` needs, to be computed by the next decode together with what else is queued.

        Args:
            queries: As for `score`. Until the scores are read, nothing may be appended to the branches.

        Raises:
            ArgumentError, ContextFullError, ClosedError: As for `score`.
        """
        asked = [(branch._core, [self._label_tokens(label) for label in labels]) for branch, labels in queries]
        core: _core.Scoring = self._model._engine.Scoring(self._core, asked)
        return Scoring(core, [tuple(labels) for _, labels in queries])

    def _label_tokens(self, label: Label) -> list[int]:
        return self._model.tokenize(label) if isinstance(label, str) else list(label)

    def generate(
        self,
        branches: Sequence[Branch],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        stop_tokens: Sequence[int] = (),
    ) -> Iterator[GenerationStep]:
        """Generates on several branches at once, one fused pass a token.

        Args:
            branches: Branches of this context with at least one row each. Branch i samples with seed + i.
            max_tokens: Tokens for each branch, at most.
            temperature: 0 is greedy.
            top_k: Sample among this many most probable tokens; 0 is off.
            top_p: Sample among the most probable tokens that hold this much probability; 1 is off.
            min_p: Leave out tokens this much less probable than the best; 0 is off.
            seed: Seed of the sampling.
            stop: The text of a branch ends before the first of these.
            stop_tokens: Tokens that end a branch, beside the model's own.

        Yields:
            A step for every token of every branch.

        Raises:
            ArgumentError: An option is outside its range.
            ContextFullError: No free cells are left. What was generated is in the branches.
            Cancelled, BackendError, ClosedError: As for `decode`.
        """
        made = self.generation(
            branches,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            stop=stop,
            stop_tokens=stop_tokens,
        )
        return made.steps()

    def generation(
        self,
        branches: Sequence[Branch],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        stop_tokens: Sequence[int] = (),
    ) -> Generation:
        """Like `generate`, to be taken step by step.

        Args:
            branches: As for `generate`, like all the others.
            max_tokens: See there.
            temperature: See there.
            top_k: See there.
            top_p: See there.
            min_p: See there.
            seed: See there.
            stop: See there.
            stop_tokens: See there.

        Raises:
            ArgumentError: An option is outside its range.
        """
        core: _core.Generation = self._model._engine.Generation(
            self._core,
            [branch._core for branch in branches],
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            stop=stop_strings(stop),
            stop_tokens=list(stop_tokens),
        )
        return Generation(core)

    @property
    def n_ctx(self) -> int:
        """KV cells that all branches share."""
        return self._core.n_ctx

    @property
    def n_cells_used(self) -> int:
        """Cells held by rows, computed or queued."""
        return self._core.n_cells_used

    @property
    def n_cells_free(self) -> int:
        """Cells that are left."""
        return self._core.n_ctx - self._core.n_cells_used

    @property
    def n_branches(self) -> int:
        """Branches open now."""
        return self._core.n_branches

    @property
    def counters(self) -> Counters:
        """What the context has done so far."""
        core = self._core.counters
        return Counters(core.rows_decoded, core.batches, core.graphs_reused, core.compute_bytes)

    def close(self) -> None:
        """Frees the cells and buffers; branches of this context raise ClosedError from then on."""
        self._core.close()

    @property
    def closed(self) -> bool:
        """Whether the context is closed."""
        return self._core.closed

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
