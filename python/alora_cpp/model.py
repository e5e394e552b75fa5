"""A base model, its adapters and intrinsics, and what is done with them: contexts and chats."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from types import TracebackType
from typing import Any

from alora_cpp import _core, finding
from alora_cpp.adapter import Adapter
from alora_cpp.bundled_model import BUNDLED, bundled_adapters
from alora_cpp.chat import Chat, OnFull, chat_file
from alora_cpp.chat_template import ChatTemplate
from alora_cpp.context import Context
from alora_cpp.errors import ArgumentError
from alora_cpp.intrinsic import Activation, Compat, Intrinsic, find_io_config, named
from alora_cpp.loaded_model import Isolation, LoadedModel


class Model(LoadedModel):
    """A loaded model. Immutable but for the intrinsics it knows; shared by any number of contexts and threads."""

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        n_gpu_layers: int = -1,
        progress: Callable[[float], bool] | None = None,
        vocabulary_only: bool = False,
        isolation: Isolation = "none",
    ) -> None:
        """Loads a GGUF model.

        Args:
            path: The file.
            n_gpu_layers: Layers computed on the GPU, where this build has one; negative: all.
            progress: Told the fraction loaded now and then; returning False cancels.
            vocabulary_only: Whether to leave the weights out: text becomes tokens, but nothing can be computed.
            isolation: `process`: it is loaded and computes in a worker process of its own, so that this one goes on
                where that one crashes.

        Raises:
            ModelLoadError: The file is missing, broken or of a kind that cannot be run.
            Cancelled: `progress` said so.
            WorkerCrashed: The worker process cannot be started, or crashed. Any call to the model, and to what is made
                with it, may raise this one; the next call starts another worker.
        """
        super().__init__(
            path,
            n_gpu_layers=n_gpu_layers,
            progress=progress,
            vocabulary_only=vocabulary_only,
            isolation=isolation,
        )
        self._contexts: weakref.WeakSet[Context] = weakref.WeakSet()
        self._intrinsics: dict[str, Intrinsic] = {}

    @classmethod
    def from_pretrained(
        cls,
        repo: str,
        filename_pattern: str | None = None,
        *,
        revision: str | None = None,
        n_gpu_layers: int = -1,
        progress: Callable[[float], bool] | None = None,
        isolation: Isolation = "none",
    ) -> Model:
        """Loads a model from the Hugging Face hub; it is downloaded to the hub's own cache unless it is there.

        Args:
            repo: `org/repo`, or `org/repo:QUANTIZATION`.
            filename_pattern: Which of its files, such as `*Q4_K_M.gguf`; if neither says which, the only one, else
                Q4_K_M.
            revision: A branch, tag or commit; the newest of the main branch if not given.
            n_gpu_layers: As for `Model`.
            progress: Told the fraction downloaded, then the fraction loaded; returning False cancels.
            isolation: As for `Model`.

        Raises:
            ArgumentError: `repo` is malformed.
            HubError: There is no such file, it may not be read, or it is not what the hub says it is.
            ModelLoadError: It is of a kind that cannot be run.
            Cancelled: `progress` said so.
            WorkerCrashed: As for `Model`.
        """
        from alora_cpp.hub import download_model

        path = download_model(repo, filename_pattern, revision=revision, progress=progress)
        return cls(path, n_gpu_layers=n_gpu_layers, progress=progress, isolation=isolation)

    @classmethod
    def bundled(cls, *, isolation: Isolation = "none") -> Model:
        """The small model that comes with the package, with its intrinsics loaded.

        Args:
            isolation: As for `Model`.
        """
        model = cls(BUNDLED, isolation=isolation)
        for file in bundled_adapters().values():
            model.load_intrinsic(file)
        return model

    def context(
        self,
        *,
        n_ctx: int | None = None,
        n_branches: int | None = None,
        n_ubatch: int | None = None,
        n_threads: int = 0,
        kv_type: str = "f16",
        flash_attention: bool | None = None,
    ) -> Context:
        """Makes a context.

        Args:
            n_ctx: KV cells that all its branches share; if not given, what the model was trained for, at most 8192.
            n_branches: Branches open at a time, at most 255; if not given, 64, or 16 for a model with recurrent layers,
                which keep a state for each branch (tens of megabytes in a model of three billion weights).
            n_ubatch: Rows computed at a time; if not given, 128, or 512 with layers on a GPU.
            n_threads: 0: one for each physical core.
            kv_type: f32, f16, bf16 or q8_0.
            flash_attention: Whether to use it; if not given, llama.cpp decides.

        Raises:
            ArgumentError: An option is outside its range.
            BackendError: The buffers cannot be had.
            ClosedError: The model is closed.
        """
        modes: dict[object, str] = {None: "auto", True: "on", False: "off"}
        if flash_attention not in modes:
            raise ArgumentError(f"flash_attention is {flash_attention!r}, expected True, False or None")
        core: _core.Context = self._engine.Context.create(
            self._core,
            n_ctx=_given("n_ctx", n_ctx) or min(self.n_ctx_train, 8192),
            n_branches=_given("n_branches", n_branches),
            n_ubatch=_given("n_ubatch", n_ubatch),
            n_threads=n_threads,
            kv_type=kv_type,
            flash_attention=modes[flash_attention],
        )
        context = Context(core, self)
        self._contexts.add(context)
        return context

    def load_adapter(self, source: str | PathLike[str] | finding.Place, *, force: bool = False) -> Adapter:
        """Loads an adapter, checked against this model.

        Args:
            source: A GGUF file, a PEFT folder, which is converted and kept in the cache, `repo#name` on the hub, a
                name, which is searched for as `alora_cpp.finding` says, or what that found.
            force: Whether to load one that was made for another base or vocabulary, if it can be computed at all.

        Raises:
            AdapterError: The file is missing, broken or of a kind that cannot be run.
            AdapterMismatchError: It was made for another base model.
            AdapterNotFoundError: Nothing of that name was found that fits.
            ConversionError: The folder cannot be converted.
        """
        return finding.locate(self, source, force=force).load(self)

    def load_intrinsic(
        self,
        source: str | PathLike[str] | finding.Place,
        *,
        force: bool = False,
        name: str | None = None,
        io_yaml: str | PathLike[str] | None = None,
        invocation: str | Sequence[int] | None = None,
        activation: Activation = "start",
        compat: Compat | None = None,
    ) -> Intrinsic:
        """Loads an adapter and how to ask it, and makes it known to chats of this model.

        Args:
            source: The adapter, as for `load_adapter`: `load_intrinsic("safety")` searches for it.
            force: As there.
            name: What to call it; if not given, the name it was found by, else the adapter's own.
            io_yaml: A file that says how to ask it; if not given, `<stem>.io.yaml` or `io.yaml` beside the adapter,
                else what the adapter's file holds, else its answer is free text.
            invocation: What calls it instead of its own invocation: text, with control tokens, or tokens. Empty: it
                governs from the last token of the prompt that begins a reply.
            activation: `start`: it governs from its invocation's first token on, as PEFT defines it; `end`: from the
                last one, the paper's setting for answers of one token.
            compat: `granite-common`: likelihoods as that library approximates them from the ten most probable tokens;
                if not given, they are exact.

        Raises:
            AdapterError: As for `load_adapter`, or its `io.yaml` cannot be understood.
            ConversionError: As for `load_adapter`.
            ArgumentError: An option is outside what it may be.
            OSError: The `io_yaml` given cannot be read.
        """
        place = finding.locate(self, source, force=force)
        adapter = place.load(self)
        if isinstance(invocation, str):
            invocation = self.tokenize(invocation, parse_special=True)
        intrinsic = Intrinsic(
            adapter,
            find_io_config(adapter, io_yaml),
            self,
            name=name or place.name,
            invocation=invocation,
            activation=activation,
            compat=compat,
        )
        self._intrinsics[intrinsic.name] = intrinsic
        return intrinsic

    @property
    def intrinsics(self) -> Mapping[str, Intrinsic]:
        """The intrinsics loaded so far, by name."""
        return self._intrinsics

    def intrinsic(self, name: str) -> Intrinsic:
        """The intrinsic of that name.

        Raises:
            AdapterNotFoundError: None of that name is loaded.
        """
        return named(self._intrinsics, name)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]] = (),
        *,
        documents: Sequence[Mapping[str, Any] | str] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        template_options: Mapping[str, Any] | None = None,
        on_full: OnFull = "error",
        may_call: Sequence[str] = (),
        call_depth: int = 1,
        n_ctx: int | None = None,
        n_threads: int = 0,
    ) -> Chat:
        """Begins a conversation in a context of its own.

        Args:
            messages: What was said already: mappings with `role` and `content`.
            documents: Documents to be grounded in: text, or mappings with `text` and perhaps `title` and `doc_id`.
            tools: Functions that the model is told of, as schemas in OpenAI's form.
            template_options: More variables for the chat template.
            on_full: Where the context is full: `error` raises ContextFullError, `shift` forgets the oldest turns.
            may_call: Intrinsics that the model itself may call: where it writes the invocation of one, that one is run
                and its answer becomes part of the text.
            call_depth: How deep such calls may go: 2 lets an intrinsic that was called call another.
            n_ctx: As for `context`.
            n_threads: As for `context`.

        Raises:
            AdapterNotFoundError: An intrinsic of `may_call` is not loaded.
            ArgumentError: A message, document or option is not what it should be.
        """
        return Chat(
            self.context(n_ctx=n_ctx, n_threads=n_threads),
            messages,
            documents=documents,
            tools=tools,
            template_options=template_options,
            on_full=on_full,
            may_call=may_call,
            call_depth=call_depth,
        )

    def load_chat(
        self,
        path: str | PathLike[str],
        *,
        on_full: OnFull = "error",
        may_call: Sequence[str] = (),
        call_depth: int = 1,
        n_ctx: int | None = None,
        n_threads: int = 0,
    ) -> Chat:
        """Goes on with a conversation that `Chat.save` wrote, without reading it again.

        Args:
            path: The file. It is checked for completeness, not for malice: take it from no stranger.
            on_full: As for `chat`, like all the others.
            may_call: See there.
            call_depth: See there.
            n_ctx: See there; if not given, as large as it was.
            n_threads: See there.

        Raises:
            ArgumentError: It is no such file, cut off, damaged, or from another model or version.
            ContextFullError: It does not fit into `n_ctx`.
            OSError: The file cannot be read.
        """
        facts, kv = chat_file.read(path, self)
        chat = self.chat(
            facts["messages"],
            documents=facts["documents"],
            tools=facts["tools"],
            template_options=facts["template_options"],
            on_full=on_full,
            may_call=may_call,
            call_depth=call_depth,
            n_ctx=n_ctx or facts["n_ctx"],
            n_threads=n_threads,
        )
        chat_file.restore(chat, facts, kv)
        return chat

    @cached_property
    def template(self) -> ChatTemplate:
        """The model's chat template; where the file has none, one that fits its control tokens.

        Raises:
            ArgumentError: It is no valid template.
        """
        return ChatTemplate(self)

    def close(self) -> None:
        """Closes the model's contexts and forgets its intrinsics; the weights go when nothing uses them any more."""
        for context in list(self._contexts):
            context.close()
        self._intrinsics.clear()
        self._unload()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _given(name: str, value: int | None) -> int:
    """An option's value; 0 where it is left to the default."""
    if value is not None and value < 1:
        raise ArgumentError(f"{name} is {value}, expected 1 or more")
    return value or 0
