"""A model and its adapters in a worker; in another one, where that has crashed.

They look like the classes of `alora_cpp._core`; what their methods do is documented where these are used.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alora_cpp.isolation.process import Worker
from alora_cpp.isolation.records import BuiltInAdapter, Fingerprints
from alora_cpp.isolation.supervisor import Supervisor
from alora_cpp.isolation.wire import Held, tokens

_MODEL_FACTS = (
    *("architecture", "metadata", "chat_template", "description", "n_parameters", "size", "n_ctx_train", "n_embd"),
    *("n_layer", "n_vocab", "fingerprints", "built_in_adapters", "bos", "eos", "control_tokens"),
)
_ADAPTER_FACTS = (
    *("name", "path", "metadata", "invocation_tokens", "activation_offset", "io_yaml", "rank", "alpha", "targets"),
    "size",
)

_SHORT = 256  # bytes
_MOST_TOKENIZED = 512


class Model:
    """A model, and who has a worker for it."""

    def __init__(self, path: str, supervisor: Supervisor, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.supervisor = supervisor
        self._facts = facts
        self._known: _Vocabulary | None = None
        # Labels and invocations, which each check asks for again.
        self._tokenized: dict[tuple[bytes, bool, bool], list[int]] = {}

    @staticmethod
    def load(
        path: str,
        *,
        n_gpu_layers: int = -1,
        vocabulary_only: bool = False,
        progress: Callable[[float], bool] | None = None,
    ) -> Model:
        """As in the core, in a worker of its own."""
        options = {"n_gpu_layers": n_gpu_layers, "vocabulary_only": vocabulary_only}
        supervisor = Supervisor(_absolute(path), options)
        worker, number = supervisor.worker(progress)
        facts = worker.facts(number, _MODEL_FACTS)
        facts["fingerprints"] = Fingerprints(*facts["fingerprints"])
        facts["built_in_adapters"] = [BuiltInAdapter(*one) for one in facts["built_in_adapters"]]
        return Model(path, supervisor, facts)

    def __getattr__(self, name: str) -> Any:
        if name in _MODEL_FACTS:
            return self._facts[name]
        raise AttributeError(f"a model has no {name!r}")

    def tokenize(self, text: bytes, *, parse_special: bool = False, add_special: bool = False) -> Any:
        """As in the core."""
        key = (text, parse_special, add_special)
        found = self._tokenized.get(key)
        if found is None:
            found = self._run("tokenize", text, options={"parse_special": parse_special, "add_special": add_special})
            if len(text) <= _SHORT:
                if len(self._tokenized) >= _MOST_TOKENIZED:
                    self._tokenized.clear()
                self._tokenized[key] = found
        else:
            self.supervisor.worker()  # as closed, or as newly started, as for any call
        return list(found)

    def detokenize(self, values: Sequence[int], *, special: bool = False) -> Any:
        """As in the core."""
        return self._run("detokenize", tokens(values), options={"special": special})

    def piece(self, token: int, *, special: bool = False) -> Any:
        """As in the core."""
        if special or not 0 <= token < self.n_vocab:
            return self._run("piece", token, options={"special": special})
        return self._vocabulary.texts[token]

    def is_control(self, token: int) -> Any:
        """As in the core."""
        return bool(self._vocabulary.control[token]) if 0 <= token < self.n_vocab else self._run("is_control", token)

    def is_end_of_generation(self, token: int) -> Any:
        """As in the core."""
        if 0 <= token < self.n_vocab:
            return bool(self._vocabulary.ends[token])
        return self._run("is_end_of_generation", token)

    @property
    def _vocabulary(self) -> _Vocabulary:
        # All of it at once: who asks for one token soon asks for the next one, or for all of them.
        if self._known is None:
            self._known = _Vocabulary(*self.supervisor.worker())
        return self._known

    def _run(self, name: str, *arguments: Any, options: Mapping[str, Any] | None = None) -> Any:
        worker, number = self.supervisor.worker()
        return worker.run(name, *arguments, target=number, options=options or {})

    def close(self) -> None:
        """Ends the worker."""
        self.supervisor.close()


class _Vocabulary:
    """The tokens of a model: what they spell, and which are control tokens or end a text."""

    def __init__(self, worker: Worker, number: int) -> None:
        sizes, text, self.control, self.ends = worker.vocabulary(number)
        ends = sizes.cumsum(dtype="uint64").tolist()
        self.texts = [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


class Adapter:
    """An adapter, loaded again by each worker in which it is used."""

    def __init__(self, model: Model, name: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        """Loads it.

        Args:
            model: The model.
            name: What loads it in the core.
            arguments: That one's arguments after the model.
            options: And keyword arguments.
        """
        self.model = model
        self._how = (name, arguments, options)
        self._lock = threading.Lock()
        self._home: tuple[Worker, int] | None = None
        worker, number = self.here()
        self._facts = worker.facts(number, _ADAPTER_FACTS)

    @staticmethod
    def load(model: Model, path: str, *, force: bool = False) -> Adapter:
        """As in the core."""
        adapter = Adapter(model, "Adapter.load", [_absolute(path)], {"force": force})
        adapter._facts["path"] = path
        return adapter

    @staticmethod
    def check(model: Model, path: str, *, force: bool = False) -> None:
        """As in the core."""
        worker, number = model.supervisor.worker()
        worker.run("Adapter.check", Held(number), _absolute(path), options={"force": force})

    @staticmethod
    def built_in(model: Model, index: int, name: str, io_yaml: str | None, invocation_tokens: Sequence[int]) -> Adapter:
        """As in the core."""
        adapter = Adapter(model, "Adapter.built_in", [index, name, io_yaml, tokens(invocation_tokens)], {})
        adapter._facts["path"] = model.path
        return adapter

    def __getattr__(self, name: str) -> Any:
        if name in _ADAPTER_FACTS:
            return self._facts[name]
        raise AttributeError(f"an adapter has no {name!r}")

    def find_invocation(self, values: Sequence[int]) -> Any:
        """As in the core."""
        worker, number = self.here()
        return worker.run("find_invocation", tokens(values), target=number)

    def here(self) -> tuple[Worker, int]:
        """The worker that there is now, and the adapter's number there; loads it, if it is not there yet.

        Raises:
            AdapterError: Its file cannot be loaded any more.
            WorkerCrashed: The worker crashed at that.
        """
        worker, model = self.model.supervisor.worker()
        with self._lock:
            if self._home is None or self._home[0] is not worker:
                name, arguments, options = self._how
                number = worker.run(name, Held(model), *arguments, options=options, keep=True)
                worker.drop_with(self, number)
                self._home = (worker, number)
            return self._home


def _absolute(path: str) -> str:
    """The path from the root: the worker stays in the folder in which it was started."""
    return os.path.abspath(path)  # noqa: PTH100 - as text, whatever is in it
