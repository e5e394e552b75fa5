"""What `alora-cli chat` does between the first line and the last."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict

from alora_cpp.chat import Chat, OnFull
from alora_cpp.chat.guards import parse_guards
from alora_cpp.chat.transcript import as_document
from alora_cpp.cli import options, terminal
from alora_cpp.cli.conversations import read_documents
from alora_cpp.cli.unnamed import is_about_documents, is_about_questions
from alora_cpp.errors import AloraError, ArgumentError
from alora_cpp.model import Model
from alora_cpp.verdict import Verdict


class _ChatOptions(TypedDict):
    on_full: OnFull
    n_ctx: int | None
    n_threads: int


class Session:
    """A conversation at a terminal or from a pipe, line after line."""

    def __init__(
        self,
        model: Model,
        arguments: argparse.Namespace,
        documents: Sequence[dict[str, Any]],
        left_out: Sequence[str],
    ) -> None:
        """Begins a conversation.

        Args:
            model: The model, with the intrinsics loaded that are to be asked.
            arguments: The command's.
            documents: What the conversation is grounded in.
            left_out: Intrinsics that were found and are asked by /check alone.
        """
        names = arguments.intrinsic or sorted(model.intrinsics)
        parse_guards(arguments.guard, model.intrinsic)
        self.after_question = [name for name in names if is_about_questions(name)]
        self.after_reply = [name for name in names if not is_about_questions(name)]
        self._left_out = left_out
        self._model = model
        self._arguments = arguments
        self._interactive = sys.stdin.isatty()
        self._failed = False
        self._options: _ChatOptions = {
            "on_full": "shift" if arguments.context_shift else "error",
            "n_ctx": arguments.ctx_size,
            "n_threads": arguments.threads,
        }
        self.chat = self._open(documents)
        if arguments.load:
            self.load(arguments.load)
            self.chat.documents.extend(documents)

    def run(self) -> int:
        """Serves line after line to the end. Returns the exit code: 1 where a line from a pipe could not be served."""
        if self._interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - gives input() a history
            self._greet()
        while True:
            at_prompt = True
            try:
                line = self._read()
                at_prompt = False
                if line.startswith("/"):
                    self._command(line)
                elif line.strip():
                    self._turn(line.strip())
            except EOFError:
                if self._interactive and at_prompt:
                    note("")
                break
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                note("" if at_prompt else "stopped")
            except (AloraError, OSError) as error:
                self._report(error)
        return 1 if self._failed and not self._interactive else 0

    def _report(self, error: Exception) -> None:
        self._failed = True
        note(f"alora-cli: error: {' '.join(str(error).split())}")

    def _read(self) -> str:
        """A line as it is typed, or the next one of a pipe. Raises EOFError after the last."""
        try:
            if not self._interactive:
                line = sys.stdin.buffer.readline().decode("utf-8")
                if not line:
                    raise EOFError
                return line.rstrip("\r\n")
            # What goes to a file is results alone.
            if not sys.stdout.isatty():
                print("> ", end="", file=sys.stderr, flush=True)
            return input("> " if sys.stdout.isatty() else "")
        except UnicodeDecodeError as error:
            raise ArgumentError(f"a line is not UTF-8: {error.reason} at byte {error.start}") from None

    def _open(self, documents: Sequence[dict[str, Any]]) -> Chat:
        return self._model.chat(documents=documents, **self._options)

    def _greet(self) -> None:
        asked = [f"after your turn: {', '.join(self.after_question)}"] if self.after_question else []
        asked += [f"after the reply: {', '.join(self.after_reply)}"] if self.after_reply else []
        asked += [f"by /check alone: {', '.join(self._left_out)}"] if self._left_out else []
        note("; ".join([self._model.name, *asked, "/help lists the commands"]))

    def _turn(self, text: str) -> None:
        """A message, its reply, and the verdicts on both. A message that gets no reply is taken back."""
        before = len(self.chat.messages)
        self.chat.add("user", text)
        try:
            with terminal.Progress("reading"):
                _ = self.chat.trunk
                self.chat.context.decode()
            self._judge_turn(self.after_question)
            self._reply()
        finally:
            if len(self.chat.messages) == before + 1:
                del self.chat.messages[before:]
        self._judge_turn(self.after_reply)

    def _reply(self) -> None:
        reply = self.chat.reply(
            max_tokens=self._arguments.predict,
            temperature=self._arguments.temp,
            seed=self._arguments.seed,
            guards=self._arguments.guard,
        )
        try:
            for piece in reply:
                print(terminal.printable(piece), end="", flush=True)
        finally:
            reply.close()
            if reply.text:
                print(flush=True)
        for check in reply.flags:
            flags = ", ".join(told(check.verdicts[name]) for name in check.flagged)
            stopped = terminal.paint("stopped", terminal.RED)
            print(f"  {stopped} by {terminal.printable(f'{flags}: {check.sentence}')}", flush=True)

    def _judge_turn(self, names: Sequence[str]) -> None:
        """Verdicts beside a turn. The conversation goes on without those that cannot be had."""
        if self._arguments.intrinsic is None and not self.chat.documents:
            names = [name for name in names if not is_about_documents(name)]
        try:
            self._judge(names)
        except AloraError as error:
            self._report(error)

    def _judge(self, names: Sequence[str], at: int | None = None) -> None:
        if names:
            verdicts = self.chat.check(*names, at=at)
            every: Iterable[Verdict] = [verdicts] if isinstance(verdicts, Verdict) else verdicts.values()
            print(terminal.paint(terminal.printable("  " + "   ".join(map(told, every))), terminal.DIM), flush=True)

    def _command(self, line: str) -> None:
        try:
            name, *words = shlex.split(line)
        except ValueError as error:
            raise ArgumentError(f"{line} cannot be read: {error}") from None
        if name not in COMMANDS:
            raise ArgumentError(f"there is no command {name}; /help lists them (a space before it makes it a message)")
        usage, _, action = COMMANDS[name]
        try:
            inspect.signature(action).bind(self, *words)
        except TypeError:
            raise ArgumentError(f"{line} has the wrong number of words; usage: {usage}") from None
        action(self, *words)

    def check(self, name: str, at: str | None = None) -> None:
        """Asks an intrinsic, about the first messages or all of them."""
        if at is not None and not at.isdecimal():
            raise ArgumentError(f"AT is {at!r}, expected a number of messages")
        options.find_intrinsic(self._model, name, self._arguments)
        self._judge([name], None if at is None else int(at))

    def add_documents(self, *files: str) -> None:
        """Adds documents, and lists what there is."""
        self.chat.documents.extend(documents_in(files))
        titles = [as_document(document).get("title") or "untitled" for document in self.chat.documents]
        note(f"documents: {', '.join(titles) or 'none'}")

    def undo(self) -> None:
        """Takes back the last message and the reply to it."""
        messages = self.chat.messages
        asked = [index for index, message in enumerate(messages) if message["role"] == "user"]
        if not asked:
            raise ArgumentError("there is no message to take back")
        note(f"took back: {messages[asked[-1]]['content']}")
        del messages[asked[-1] :]

    def save(self, file: str) -> None:
        """Writes the conversation to a file."""
        self.chat.save(file)
        note(f"saved to {file}")

    def load(self, file: str) -> None:
        """Goes on with the conversation in a file."""
        loaded = self._model.load_chat(file, **self._options)
        self._go_on_with(loaded)
        note(f"loaded {file}, {len(loaded.messages)} messages")

    def _go_on_with(self, chat: Chat) -> None:
        self.chat.close()
        self.chat = chat

    def clear(self) -> None:
        """Begins anew, with the same documents."""
        self._go_on_with(self._open(self.chat.documents))
        note("cleared; the documents are kept")

    def help(self) -> None:
        """Lists the commands."""
        width = max(len(usage) for usage, _, _ in COMMANDS.values())
        for usage, meaning, _ in COMMANDS.values():
            note(f"{usage.ljust(width)}  {meaning}")

    def quit(self) -> None:
        """Leaves."""
        raise EOFError


COMMANDS: dict[str, tuple[str, str, Callable[..., None]]] = {
    "/check": ("/check NAME [AT]", "ask an intrinsic now, or about the first AT messages", Session.check),
    "/documents": ("/documents [FILE ...]", "add documents, and list them all", Session.add_documents),
    "/save": ("/save FILE", "write the conversation, with what was computed for it", Session.save),
    "/load": ("/load FILE", "go on with a saved conversation", Session.load),
    "/undo": ("/undo", "take back your last message and the reply to it", Session.undo),
    "/clear": ("/clear", "begin anew, with the same documents", Session.clear),
    "/help": ("/help", "this list; Ctrl-C stops a reply", Session.help),
    "/quit": ("/quit", "leave, as Ctrl-D does", Session.quit),
}


def told(verdict: Verdict) -> str:
    """A verdict in a few words."""
    if verdict.label is None or verdict.probability is None:
        result = verdict.result
        return f"{verdict.intrinsic} {result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)}"
    text = f"{verdict.intrinsic} {verdict.label} {verdict.probability:.0%}"
    # With two labels the value says nothing that the probability does not.
    return text if verdict.value is None or len(verdict.probabilities) < 3 else f"{text} (mean {verdict.value:.2f})"


def note(text: str) -> None:
    """A remark, on stderr."""
    print(text, file=sys.stderr, flush=True)


def documents_in(files: Sequence[str]) -> list[dict[str, Any]]:
    """The documents in files, as a conversation holds them.

    Raises:
        ArgumentError: One of them is standard input, or cannot be read as documents.
    """
    if "-" in files:
        raise ArgumentError("standard input holds the conversation; expected files with documents")
    return [as_document(document) for document in read_documents(files)]
