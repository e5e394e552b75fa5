"""Likelihoods by brute force, and vocabularies whose tokens lie across the edges of labels.

Every label is computed alone, from a fresh prefill, with softmax in float64. None of the package's own spelling or
weighing is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import numpy.typing as npt
import yaml

from tiny import Key, Kind, fresh_logits, open_exact, rewrite_gguf

if TYPE_CHECKING:
    from alora_cpp import Chat, Intrinsic, Model

N_CONTROL = 5
# What the answers in these tests are made of; the other characters give way to longer tokens.
CHARACTERS = ' \n"{}[]:,.-_<>|0123456789abcdefghijklmnopqrstuvwxyzYN'

MESSAGES = [{"role": "user", "content": "is it so"}]


# Pairs to merge, in order. What ends a label becomes one token with what follows it.
BPE = ["e|s", "y|es", "n|o", '"|}', '"|,', '"}|,', '"}|]', ' |"', "1|0", "10|0", "t|r", "u|e", "tr|ue"]
# Merged in this order, whatever the characters are.
UNIGRAM = [' "', ' "y', '"}', '",', 's"', 'o"', 'o",', "10", "0}", "10}", ": ", ": t", '{"', "es", ', "', "0,"]


def write_vocabulary(kind: str, source: Path, folder: Path) -> Path:
    """The tiny model with a vocabulary of `characters`, or one whose tokens go across labels' edges."""
    if kind == "bpe":
        return write_bpe(source, folder / "bpe.gguf", BPE)
    return write_unigram(source, folder / "unigram.gguf", UNIGRAM) if kind == "unigram" else source


def write_bpe(source: Path, path: Path, merged: Sequence[str]) -> Path:
    """Copies the tiny model with a byte-level vocabulary; each merged token is a pair of earlier ones, cut by a bar."""
    spelled = {" ": "\u0120", "\n": "\u010a"}
    pairs = [[spelled.get(part, part.replace(" ", "\u0120")) for part in pair.split("|")] for pair in merged]
    single = [spelled.get(character, character) for character in CHARACTERS] + ["\u00c3", "\u00a9"]
    return _write(source, path, "gpt2", single + ["".join(pair) for pair in pairs], [" ".join(pair) for pair in pairs])


def write_unigram(source: Path, path: Path, longer: Sequence[str]) -> Path:
    """Copies the tiny model with a vocabulary that merges across any edges: earlier tokens first."""
    texts = [text.replace(" ", "\u2581") for text in [*CHARACTERS, *longer]]
    return _write(source, path, "llama", texts, [])


def _write(source: Path, path: Path, kind: str, texts: list[str], merges: list[str]) -> Path:
    fields = gguf.GGUFReader(source).fields
    held = list(fields["tokenizer.ggml.tokens"].contents())
    assert len(set(texts)) == len(texts) <= len(held) - N_CONTROL
    types = [gguf.TokenType.CONTROL] * N_CONTROL + [gguf.TokenType.NORMAL] * len(texts)
    texts = held[:N_CONTROL] + texts
    types += [gguf.TokenType.UNUSED] * (len(held) - len(texts))
    texts += [f"<unused{i}>" for i in range(len(held) - len(texts))]
    # SentencePiece merges the pair with the highest score first.
    scores = [-1000.0] * (N_CONTROL + len(CHARACTERS)) + [-float(i) for i in range(len(texts))]
    return rewrite_gguf(
        source,
        path,
        tokenizer__ggml__model=Key(kind, Kind.STRING),
        tokenizer__ggml__tokens=Key(texts, Kind.ARRAY, Kind.STRING),
        tokenizer__ggml__token_type=Key([int(one) for one in types], Kind.ARRAY, Kind.INT32),
        tokenizer__ggml__scores=Key(scores[: len(texts)], Kind.ARRAY, Kind.FLOAT32),
        tokenizer__ggml__merges=Key(merges or ["a b"], Kind.ARRAY, Kind.STRING),
        tokenizer__ggml__add_space_prefix=Key(False, Kind.BOOL),
    )


@contextmanager
def asked(
    model: Model, adapter: Path, folder: Path, *, compat: Any = None, name: str = "asked", **config: Any
) -> Iterator[tuple[Chat, Intrinsic]]:
    """A conversation with as little rounding as can be, and an intrinsic that is configured as said."""
    from alora_cpp import Chat

    io_yaml = folder / f"{name}.io.yaml"
    io_yaml.write_text(described(**config), encoding="utf-8")
    intrinsic = model.load_intrinsic(adapter, name=name, io_yaml=io_yaml, compat=compat)
    with open_exact(model) as context, Chat(context, MESSAGES) as chat:
        yield chat, intrinsic


def described(**config: Any) -> str:
    """An `io.yaml`."""
    config = {"model": None, "response_format": None, "transformations": [], **config}
    if config["response_format"] is not None:
        config["response_format"] = json.dumps(config["response_format"])
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def choices(*texts: str) -> dict[str, Any]:
    """`parameters` that name a closed set of bare texts."""
    return {"extra_body": {"structured_outputs": {"choice": list(texts)}}}


def likelihood(values: dict[Any, float], *path: str | int | None) -> dict[str, Any]:
    """The transformation."""
    return {"type": "likelihood", "input_path": list(path), "categories_to_values": values}


class BruteForce:
    """Probabilities of what an intrinsic may write, each token sequence alone."""

    def __init__(self, chat: Chat, intrinsic: Intrinsic) -> None:
        from alora_cpp.chat.prompt import write_prompt

        prompt = write_prompt(intrinsic, chat.transcript.conversation(), {})
        self.model = chat.context.model
        self.adapter = intrinsic.adapter
        self.prompt, self.activation = prompt.tokens, prompt.activation
        self.constraint = intrinsic.constraint
        self.pieces = [self.model._core.piece(token) for token in range(self.model.n_vocab)]
        self._rows: dict[tuple[int, ...], npt.NDArray[np.float64]] = {}

    def next_tokens(self, written: Sequence[int]) -> npt.NDArray[np.float64]:
        """Log-probabilities of what follows an answer's first tokens."""
        key = tuple(written)
        if key not in self._rows:
            tokens = [*self.prompt, *written]
            row = fresh_logits(self.model, tokens, adapter=self.adapter, at=self.activation)[-1].astype(np.float64)
            row -= row.max()
            self._rows[key] = row - np.log(np.exp(row).sum())
        return self._rows[key]

    def sequence(self, tokens: Sequence[int]) -> float:
        """Log-probability of a token sequence as the answer's first tokens."""
        return sum(float(self.next_tokens(tokens[:i])[token]) for i, token in enumerate(tokens))

    def closed(self, texts: Sequence[str]) -> dict[str, float]:
        """Probability of each of a closed set of answers: a longer one is no longer the shorter one it begins with."""
        tokens = {text: tuple(self.model.tokenize(text)) for text in texts}
        own = {}
        for text in texts:
            behind = [other for other in tokens.values() if _begins(other, tokens[text])]
            nearest = [one for one in behind if not any(_begins(one, other) for other in behind)]
            own[text] = np.exp(self.sequence(tokens[text])) - sum(np.exp(self.sequence(one)) for one in nearest)
        total = sum(own.values())
        return {text: float(probability / total) for text, probability in own.items()}

    def written(self, text: str, *, own: Sequence[str]) -> float:
        """Log-probability that an answer begins with a text, by the tokenizer's own tokens until one holds the rest.

        Args:
            text: The text.
            own: Texts whose tokenization counts as the tokenizer's own.
        """
        paths = {tuple(self.model.tokenize(one)[:length]) for one in own for length in range(len(one.encode()) + 1)}
        return self._total(way for way in self._ways(text.encode(), paths))

    def written_in_any_way(self, text: str, *, after: str) -> float:
        """Log-probability that an answer begins with a text, by all tokens there are behind a first part of it."""
        first = self.model.tokenize(after)
        rest = text.encode()[len(b"".join(self.pieces[token] for token in first)) :]
        return self._total((*first, *way) for way in self._all_ways(rest))

    def _total(self, ways: Iterator[tuple[int, ...]]) -> float:
        logs = [self.sequence(way) for way in ways]
        return float(np.logaddexp.reduce(logs)) if logs else -np.inf

    def _ways(self, text: bytes, paths: set[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
        for path in sorted(paths):
            before = b"".join(self.pieces[token] for token in path)
            if len(before) < len(text) and text.startswith(before):
                for token, piece in enumerate(self.pieces):
                    if (before + piece).startswith(text) and self._begins_an_answer(before + piece):
                        yield (*path, token)

    def _begins_an_answer(self, text: bytes) -> bool:
        assert self.constraint is not None
        return self.constraint._bytes.deep_copy().try_consume_tokens([*text]) == len(text)

    def _all_ways(self, text: bytes) -> Iterator[tuple[int, ...]]:
        for token, piece in enumerate(self.pieces):
            if piece.startswith(text):
                yield (token,)
            elif piece and text.startswith(piece):
                yield from ((token, *way) for way in self._all_ways(text[len(piece) :]))


def _begins(longer: tuple[int, ...], shorter: tuple[int, ...]) -> bool:
    return len(longer) > len(shorter) and longer[: len(shorter)] == shorter
