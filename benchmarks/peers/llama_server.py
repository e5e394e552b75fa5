"""llama.cpp's own server, stock, as the package `xllamacpp` brings it: with aLoRA adapters, or a Granite Switch model.

It is asked as its users ask it, over HTTP on this machine, by one client. Connecting is not timed: a client that does
nothing else meanwhile would keep its connection. It is set up as is best for one client; the rest is left as it comes:

- `cache_prompt`, so that whatever begins like the conversation in a slot is not read again.
- No cache of prompts in RAM: with one conversation there is nothing to bring back, and filling it takes time.
- The greedy choice as a top-k of one: the usual chain of samplers looks through the whole vocabulary several times.
- What the user says goes with the request for the reply, as clients send it.

Adapters are named in each request, as its README has it. For the base that means a list in which all of them have
scale 0, and going from an aLoRA to that list empties the slot. Without a list, with adapters loaded at scale 0, the
slot would be kept, but then the base goes on from the key and value of a token that the adapter computed, for the
server activates adapters one token early: its probabilities are no longer the base's
(`tests/benchmarks/test_stock_contenders.py` shows it), and a contender that gives other answers is not measured. Who
wants the base's own answers and no second reading after each check needs a slot for the base and one for the checks:
both read everything once, and hold it. The checks then see, of each earlier turn, a last token that a check computed.

Wheels of `xllamacpp` for Linux and Windows know nothing beyond AVX2. To compare on a processor with more, have it
compiled, which needs Rust, and a compiler of which `llama_cpp_python.py` tells:
`CC=clang CXX=clang++ pip install --force-reinstall --no-deps --no-binary xllamacpp xllamacpp`
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alora_cpp.convert.gguf_header import read_header
from benchmarks.peers.contender import Files, Loaded, Setting, Step

_CONTROL_TOKENS = "graniteswitch.adapters.token_ids_activate"
# llama.cpp makes a cache of a multiple of it.
_CELLS = 256


@dataclass(frozen=True)
class _Asker:
    """Who reads and writes: the base or an adapter.

    Attributes:
        slot: The slot of the server that it works in.
        adapters: Adapters and their scales, as a request has them; None leaves them out.
        invocation: What follows the conversation.
    """

    slot: int
    adapters: list[dict[str, float]] | None
    invocation: tuple[int, ...] = ()


class _Server:
    """A conversation with a server."""

    _N_SLOTS = 1

    def __init__(self) -> None:
        self._server: Any = None
        self._conversation: list[int] = []
        self._stale: set[int] = set()
        self._base = _Asker(0, None)
        self._askers: list[_Asker] = []

    def begin(self, tokens: Sequence[int]) -> Step:
        """Forgets everything and reads a prompt with the base model."""
        self._conversation = list(tokens)
        self._stale = set(range(self._N_SLOTS))
        # It samples a token all the same, which takes no row and goes nowhere.
        return self._complete(self._base, 0)

    def extend(self, tokens: Sequence[int]) -> Step:
        """Is read with the next request."""
        self._conversation += tokens
        return Step(0.0, 0.0, 0, 0, [])

    def write(self, count: int) -> Step:
        """The base model writes."""
        step = self._complete(self._base, count)
        self._conversation += step.tokens
        return step

    def ask(self, adapters: Sequence[int], count: int) -> Step:
        """A request for each adapter, one after the other: the server never computes two adapters in one batch."""
        steps = [self._complete(self._askers[adapter], count) for adapter in adapters]
        return Step(
            seconds=sum(step.seconds for step in steps),
            first=steps[0].first,
            evaluated=sum(step.evaluated for step in steps),
            reused=sum(step.reused for step in steps),
            tokens=[token for step in steps for token in step.tokens],
        )

    def close(self) -> None:
        """Frees everything."""
        self._server = None

    def _start(self, model: Path, adapters: Sequence[Path], setting: Setting) -> Loaded:
        import xllamacpp

        cells = self._N_SLOTS * (setting.n_ctx // _CELLS + 1) * _CELLS
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(model)
        parameters.n_ctx = cells
        parameters.n_parallel = self._N_SLOTS
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = setting.threads
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in adapters]
        parameters.cache_ram_mib = 0
        parameters.fit_params = False
        self._server = xllamacpp.Server(parameters)
        weights = sum(path.stat().st_size for path in (model, *adapters))
        return Loaded(weights=weights, kv=cells * setting.kv_token_bytes)

    def _complete(self, asker: _Asker, count: int) -> Step:
        request = self._request(asker, count)
        # One for each request: the server closes those that nothing came through for five seconds.
        connection = http.client.HTTPConnection(self._server.listening_address.removeprefix("http://"))
        with closing(connection):
            connection.connect()
            start = time.perf_counter()
            answer = self._post(connection, request)
            seconds = time.perf_counter() - start
        times, tokens = answer["timings"], answer["tokens"] if count else []
        if len(tokens) != count:
            raise RuntimeError(f"llama-server wrote {len(tokens)} of {count} tokens behind {len(self._conversation)}")
        return Step(
            seconds=seconds,
            first=seconds - times["predicted_ms"] / 1000,
            # The last token that is written takes no row any more.
            evaluated=times["prompt_n"] + max(0, count - 1),
            reused=times["cache_n"],
            tokens=tokens,
        )

    def _request(self, asker: _Asker, count: int) -> dict[str, Any]:
        request: dict[str, Any] = {
            "prompt": [*self._conversation, *asker.invocation],
            "n_predict": count,
            "id_slot": asker.slot,
            "cache_prompt": asker.slot not in self._stale,
            "ignore_eos": True,
            "samplers": ["top_k"],
            "top_k": 1,
            "return_tokens": True,
            "response_fields": ["tokens", "timings"],
        }
        if asker.adapters is not None:
            request["lora"] = asker.adapters
        self._stale.discard(asker.slot)
        return request

    def _post(self, connection: http.client.HTTPConnection, request: dict[str, Any]) -> dict[str, Any]:
        connection.request("POST", "/completion", json.dumps(request), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body: dict[str, Any] = json.loads(answer.read())
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"llama-server answered {answer.status}: {body.get('error', body)}")
        return body


class AloraServer(_Server):
    """aLoRA adapters beside the base, everything in one slot, as it comes about by itself."""

    _CHECKS = 0

    def load(self, files: Files, setting: Setting) -> Loaded:
        """Starts the server."""
        numbers = range(len(files.adapters))
        self._base = _Asker(0, [{"id": number, "scale": 0.0} for number in numbers])
        self._askers = [_Asker(self._CHECKS, [{"id": n, "scale": 1.0}], setting.invocation) for n in numbers]
        return self._start(files.model, files.adapters, setting)


class TwoSlotServer(AloraServer):
    """aLoRA adapters beside the base, which has a slot to itself."""

    _N_SLOTS = 2
    _CHECKS = 1


class SwitchServer(_Server):
    """A composed Granite Switch model. Its adapters are called by control tokens, so one slot serves all of them."""

    def load(self, files: Files, setting: Setting) -> Loaded:
        """Starts the server."""
        if files.switch is None:
            raise ValueError("there is no Granite Switch model among the files; expected Files.switch")
        controls = read_header(files.switch, arrays=[_CONTROL_TOKENS]).values[_CONTROL_TOKENS]
        # A control token stands for the first token of the invocation.
        self._askers = [_Asker(0, None, (control, *setting.invocation[1:])) for control in controls]
        return self._start(files.switch, (), setting)
