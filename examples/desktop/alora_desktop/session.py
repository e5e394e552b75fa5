"""A model, its intrinsics and one conversation with it; knows nothing of windows and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from alora_cpp import AdapterNotFoundError, AloraError, Cancelled, Chat, ContextFullError, Model, Verdict
from alora_cpp.loaded_model import Isolation
from alora_desktop.events import Ended, Event, Judged, Marked, Turn, Wrote
from alora_desktop.spans import flagging_rule, unsupported_spans

# Who judges what. A model that has not all of them is asked those that it has.
ABOUT_QUESTIONS = ("safety",)
ABOUT_REPLIES = ("hallucination", "certainty")
# Without documents there is nothing that a reply could be unsupported by.
ABOUT_DOCUMENTS = ("hallucination",)


class Session:
    """A loaded model and a conversation with it. One thread at a time uses it; `cancel` may come from any.

    Attributes:
        model: The model.
        asked: Its intrinsics that judge the conversation.
    """

    def __init__(
        self,
        path: Path,
        *,
        documents: Sequence[Mapping[str, str]] = (),
        isolation: Isolation = "none",
        n_threads: int = 0,
        progress: Callable[[float], bool] | None = None,
    ) -> None:
        """Loads a model and begins a conversation.

        Args:
            path: A GGUF file.
            documents: What the conversation is grounded in: mappings with `title` and `text`.
            isolation: Where the model computes: `none` is here, `process` in a process of its own.
            n_threads: Threads that compute; 0: one for each physical core.
            progress: Told the fraction loaded now and then; returning False cancels.

        Raises:
            AloraError: The model cannot be loaded, `progress` said so, or there is no memory for a conversation.
        """
        self._n_threads = n_threads
        self.model = Model(path, isolation=isolation, progress=progress)
        try:
            self.asked = tuple(name for name in ABOUT_QUESTIONS + ABOUT_REPLIES if self._load(name))
            self._chat = self._open(documents)
        except BaseException:
            self.model.close()
            raise

    def _load(self, name: str) -> bool:
        try:
            self.model.load_intrinsic(name, name=name)
        except AdapterNotFoundError:
            return False
        return True

    def begin_anew(self, documents: Sequence[Mapping[str, str]]) -> None:
        """Begins another conversation, in place of the one before it."""
        # First the memory of the one, then that of the other.
        self._chat.close()
        self._chat = self._open(documents)

    def _open(self, documents: Sequence[Mapping[str, str]]) -> Chat:
        # A long conversation goes on without its oldest turns.
        return self.model.chat(documents=documents, on_full="shift", n_threads=self._n_threads)

    def ground(self, documents: Sequence[Mapping[str, str]]) -> None:
        """Grounds what follows in these documents."""
        self._chat.documents[:] = [dict(document) for document in documents]

    def ask(self, text: str) -> Iterator[Event]:
        """Asks the model something.

        Args:
            text: The user's message.

        Yields:
            What happens, up to and with one `Ended`.
        """
        messages = self._chat.messages
        self._chat.add("user", text)
        cancelled, problem = False, None
        try:
            yield from self._judge("question", ABOUT_QUESTIONS)
            yield from self._reply()
            if messages[-1]["role"] == "assistant":
                yield from self._judge("reply", ABOUT_REPLIES)
        except Cancelled:
            cancelled = True
        except ContextFullError:
            n_ctx = self._chat.context.n_ctx
            problem = f"Documents and question do not fit into the model's {n_ctx} tokens. Remove a document."
        except AloraError as error:
            problem = str(error)
        finally:
            # A question that got no reply is no part of the conversation.
            answered = messages[-1]["role"] == "assistant"
            if not answered:
                messages.pop()
        yield Ended(answered, cancelled, problem)

    def _reply(self) -> Iterator[Event]:
        rule = flagging_rule(self.model.intrinsic("hallucination")) if self._asks("hallucination") else None
        reply = self._chat.reply(guards={"hallucination": rule} if rule else {}, on_flag="report")
        n_told = 0
        try:
            for piece in reply:
                yield Wrote(piece)
                for check in reply.flags[n_told:]:
                    yield Marked(check.begin, check.end)
                n_told = len(reply.flags)
        finally:
            reply.close()
        for check in reply.flags[n_told:]:
            yield Marked(check.begin, check.end)

    def _judge(self, turn: Turn, names: Sequence[str]) -> Iterator[Event]:
        """Verdicts on the turn that is the last one now."""
        names = [name for name in names if self._asks(name)]
        if not names:
            return
        answered = self._chat.check(*names)
        verdicts = {names[0]: answered} if isinstance(answered, Verdict) else answered
        yield Judged(turn, verdicts)
        if "hallucination" in verdicts:
            for begin, end in unsupported_spans(verdicts["hallucination"].result):
                yield Marked(begin, end)

    def _asks(self, name: str) -> bool:
        return name in self.asked and (bool(self._chat.documents) or name not in ABOUT_DOCUMENTS)

    def cancel(self) -> None:
        """Ends what is being computed. Safe from any thread."""
        self._chat.cancel()

    def resume(self) -> None:
        """Takes back a `cancel` that came when nothing was computed."""
        self._chat.context.resume()

    def close(self) -> None:
        """Frees the conversation and the model."""
        self.model.close()
