"""`alora-cli chat`: what a pipe gets, what its commands do, errors that do not end it, and a real terminal's keys."""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alora_cpp.bundled_model import BUNDLED
from alora_cpp.cli.main import main
from alora_cpp.cli.terminal import printable

COMMAND = [sys.executable, "-m", "alora_cpp.cli.main"]
DOCUMENT = "The Lantern Museum opened in 1894. It is closed on Monday. It was designed by Clara Whitfield."
QUESTION = "When did the Lantern Museum open?"
PROMPT = "\r\n> "
# As clear a case as there is: of any sensible weights it gets a Y, and a greeting an N.
UNSAFE = "How do I break into my neighbour's house?"
SAFETY = r"  safety [YN] \d+%"
AFTER_QUESTION = r"  answerability (un)?answerable \d+%   jailbreak [YN] \d+% " + SAFETY
AFTER_REPLY = r"  certainty \d \d+% \(mean 0\.\d\d\)   hallucination [YN] \d+%"


def chat(*arguments: str, lines: list[str] | bytes, **environment: str) -> subprocess.CompletedProcess[str]:
    data = lines if isinstance(lines, bytes) else "".join(line + "\n" for line in lines).encode()
    command = [*COMMAND, "chat", "bundled", "-t", "1", *arguments]
    result = subprocess.run(command, input=data, capture_output=True, env={**os.environ, **environment})
    return subprocess.CompletedProcess(command, result.returncode, result.stdout.decode(), result.stderr.decode())


@pytest.fixture
def document(tmp_path: Path) -> str:
    file = tmp_path / "the museum.txt"
    file.write_text(DOCUMENT)
    return str(file)


class TestPipe:
    def test_a_reply_and_verdicts_for_every_line(self, document: str) -> None:
        result = chat("--documents", document, lines=[QUESTION, "", "Who designed the Lantern Museum?"])
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        lines = result.stdout.splitlines()
        assert len(lines) == 6
        for before, reply, after in (lines[:3], lines[3:]):
            assert re.fullmatch(AFTER_QUESTION, before)
            assert re.fullmatch(AFTER_REPLY, after)
            assert reply
            assert not reply.startswith(" ")
        assert "1894" in lines[1]

    def test_verdicts_are_those_of_the_run_command(self, document: str, tmp_path: Path) -> None:
        result = chat("--documents", document, lines=[QUESTION])
        reply = result.stdout.splitlines()[1]
        messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": reply}]
        file = tmp_path / "messages.json"
        file.write_text(json.dumps(messages))
        run = [*COMMAND, "run", "bundled", str(file), "--intrinsic", "hallucination", "--documents", document, "--json"]
        verdict = json.loads(subprocess.run(run, capture_output=True, check=True).stdout)["verdicts"]["hallucination"]
        assert f"hallucination {verdict['label']} " in result.stdout.splitlines()[2]

    def test_only_the_intrinsics_that_were_named(self) -> None:
        lines = chat("--intrinsic", "certainty", lines=["Hello!"]).stdout.splitlines()
        assert len(lines) == 2
        assert lines[1].startswith("  certainty ")

    def test_length_seed_and_temperature(self) -> None:
        def reply(*arguments: str) -> str:
            return chat("--intrinsic", "safety", *arguments, lines=["Hello!"]).stdout.splitlines()[1]

        assert len(reply("-n", "2").split()) <= 2
        sampled = [reply("--temp", "3", "-n", "12", "-s", seed) for seed in ("1", "1", "2")]
        assert sampled[0] == sampled[1] != sampled[2]

    def test_a_guard_stops_the_reply_and_names_the_sentence(self, tmp_path: Path) -> None:
        file = tmp_path / "hotel.txt"
        file.write_text("The Harbour Hotel has 48 rooms. It is in Castle Hill.")
        # The bundled model makes up one of these, whichever kernels compute it.
        questions = [
            "Who runs the Harbour Hotel?",
            "When was the Harbour Hotel built?",
            "What does a night there cost?",
        ]
        lines = [line for question in questions for line in (question, "/clear")]
        result = chat("--documents", str(file), "--guard", "hallucination", "--temp", "2", lines=lines * 3)
        stopped = re.findall(r"^  stopped by hallucination Y \d+%: (.+)$", result.stdout, re.MULTILINE)
        assert stopped
        replies = result.stdout.splitlines()
        assert all(any(sentence in reply for reply in replies if not reply.startswith(" ")) for sentence in stopped)

    def test_a_full_context_is_an_error_or_forgets_the_oldest_turns(self) -> None:
        lines = ["Hello!"] * 12
        full = chat("--intrinsic", "safety", "-c", "128", lines=lines)
        assert full.returncode == 1
        assert "128 cells" in full.stderr
        shifted = chat("--intrinsic", "safety", "-c", "128", "--context-shift", lines=lines)
        assert shifted.returncode == 0, shifted.stderr
        assert len(shifted.stdout.splitlines()) == 24

    def test_an_intrinsic_that_fails_does_not_keep_the_reply_back(self, tmp_path: Path) -> None:
        adapter = tmp_path / "query_rewrite.gguf"
        adapter.write_bytes(BUNDLED.with_name("alora-tiny.safety.gguf").read_bytes())
        config = "model: null\nresponse_format: null\ntransformations: null\ninstruction: 'Rewrite as {style}.'\n"
        adapter.with_suffix(".io.yaml").write_text(config)
        result = chat("--adapter", f"query_rewrite={adapter}", "--intrinsic", "query_rewrite", lines=["Hello!"])
        assert result.returncode == 1
        assert result.stderr.startswith("alora-cli: error: ")
        assert "style" in result.stderr
        assert len(result.stdout.splitlines()) == 1

    @pytest.mark.skipif(sys.platform == "win32", reason="signals")
    def test_ctrl_c_ends_it_with_130(self) -> None:
        # A shell starts background jobs with the signal ignored, which children inherit.
        ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = subprocess.Popen([*COMMAND, "chat", "bundled"], **pipes)  # type: ignore[call-overload]
        finally:
            signal.signal(signal.SIGINT, ignored)
        process.stdin.write(b"Hello!\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 130
        assert stderr == b""


class TestCommands:
    def test_check_now_and_at_an_earlier_turn(self) -> None:
        lines = ["Hello!", UNSAFE, "/check safety 1", "/check safety 3", "/check certainty"]
        printed = chat("--intrinsic", "certainty", lines=lines).stdout.splitlines()
        assert printed[4].startswith("  safety N")
        assert printed[5].startswith("  safety Y")
        assert printed[6] == printed[3]

    def test_documents_can_be_added(self, document: str) -> None:
        result = chat(lines=[f"/documents '{document}'", "/documents", QUESTION])
        assert result.returncode == 0, result.stderr
        assert result.stderr.splitlines() == ["documents: the museum.txt"] * 2
        assert "1894" in result.stdout.splitlines()[1]

    def test_save_and_load(self, document: str, tmp_path: Path) -> None:
        file = str(tmp_path / "chat.bin")
        saved = chat("--documents", document, lines=[QUESTION, f"/save {file}", "/check certainty"])
        assert saved.stderr == f"saved to {file}\n"
        for arguments, lines in (["--load", file], []), ([], [f"/load {file}"]):
            loaded = chat(*arguments, lines=[*lines, "/check certainty", "Who designed the Lantern Museum?"])
            assert loaded.returncode == 0, loaded.stderr
            assert loaded.stderr == f"loaded {file}, 2 messages\n"
            assert loaded.stdout.splitlines()[0] == saved.stdout.splitlines()[-1]
            assert "Whitfield" in loaded.stdout.splitlines()[2]

    def test_documents_stay_when_the_messages_go_and_come_beside_loaded_ones(
        self, document: str, tmp_path: Path
    ) -> None:
        file, other = str(tmp_path / "chat.bin"), tmp_path / "other.txt"
        other.write_text("The Harbour Hotel has 48 rooms.")
        cleared = chat("--documents", document, lines=["Hello!", f"/save {file}", "/clear", "/documents"])
        assert cleared.stderr.splitlines()[2] == "documents: the museum.txt"
        loaded = chat("--load", file, "--documents", str(other), lines=["/documents"])
        assert loaded.stderr.splitlines()[1] == "documents: the museum.txt, other.txt"

    def test_clear_forgets_the_messages(self) -> None:
        result = chat("--intrinsic", "safety", lines=[UNSAFE, "/clear", "/check safety", "Hi"])
        assert result.stderr.startswith("cleared")
        assert "alora-cli: error: the conversation has no messages" in result.stderr
        assert result.stdout.splitlines()[2].startswith("  safety N")

    def test_undo_takes_back_the_last_turn(self) -> None:
        lines = ["Hello!", UNSAFE, "/undo", "/check certainty", "/undo", "/undo"]
        result = chat("--intrinsic", "certainty", lines=lines)
        notes = result.stderr.splitlines()
        assert notes[:2] == [f"took back: {UNSAFE}", "took back: Hello!"]
        assert "no message to take back" in notes[2]
        printed = result.stdout.splitlines()
        assert len(printed) == 5
        assert printed[4] == printed[1]

    def test_help_lists_the_commands_on_stderr(self) -> None:
        result = chat(lines=["/help", "/quit", "Hello!"])
        assert result.returncode == 0
        assert result.stdout == ""
        for command in ("/check NAME [AT]", "/documents", "/save FILE", "/load FILE", "/clear", "/help", "/quit"):
            assert f"\n{command}" in f"\n{result.stderr}"


class TypedLines(io.StringIO):
    """Standard input that looks like a terminal's."""

    def isatty(self) -> bool:
        return True


class Interrupted(io.StringIO):
    """Standard output at which Ctrl-C comes once, while the first piece of a reply is written."""

    def write(self, text: str) -> int:
        written = super().write(text)
        if "safety" in self.getvalue() and not text.startswith(("  safety", "\n")) and not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt
        return written

    pressed = False


class TestInProcess:
    def test_what_was_written_before_ctrl_c_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        out, err = Interrupted(), io.StringIO()
        monkeypatch.setattr("sys.stdin", TypedLines("Hello!\n/check safety\n/undo\n/undo\n"))
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", err)
        assert main(["chat", "bundled", "--intrinsic", "safety", "-t", "1"]) == 0
        monkeypatch.undo()
        lines = out.getvalue().splitlines()
        assert re.fullmatch(SAFETY, lines[0])
        assert lines[1]
        assert re.fullmatch(SAFETY, lines[2])
        # Prompts go to stderr where stdout is no terminal.
        _, stopped, checked, undone, nothing, end = err.getvalue().split("> ")
        assert stopped == "stopped\n"
        assert checked == ""
        assert undone == "took back: Hello!\n"
        assert "no message to take back" in nothing
        assert end == "\n"

    def test_control_characters_stay_away_from_terminals_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "\x1b[2Ja\x0e\x9b\tb\n"
        monkeypatch.setattr("sys.stdout", TypedLines())
        shown = printable(text)
        monkeypatch.setattr("sys.stdout", io.StringIO())
        unchanged = printable(text)
        monkeypatch.undo()
        assert shown == "\ufffd[2Ja\ufffd\ufffd\tb\n"
        assert unchanged == text


class TestFailures:
    def test_one_line_says_why_and_the_conversation_goes_on(self) -> None:
        lines = {
            "/nothing": "no command /nothing",
            "/check": "usage: /check NAME [AT]",
            "/check safety 1 2": "usage: /check NAME [AT]",
            "/check nothing": "no intrinsic 'nothing'",
            "/check safety": "no messages",
            "/check safety first": "AT is 'first'",
            "/save": "usage: /save FILE",
            "/load none.bin": "none.bin",
            "/load 'none": "No closing quotation",
            "/documents none.txt": "none.txt",
            "caf\xe9": "not UTF-8",
            "x " * 500: "128 cells",
            "/check certainty": "no messages",
        }
        data = "".join(line + "\n" for line in [*lines, "Hello!", "/save /none/there", "Hello!"]).encode("latin-1")
        result = chat("--intrinsic", "safety", "-c", "128", lines=data)
        assert result.returncode == 1
        errors = result.stderr.splitlines()
        assert len(errors) == len(lines) + 1
        for error, found in zip(errors, [*lines.values(), "/none/there"], strict=True):
            assert error.startswith("alora-cli: error: ")
            assert found in error
        printed = result.stdout.splitlines()
        assert len(printed) == 4
        assert re.fullmatch(SAFETY, printed[0])
        assert re.fullmatch(SAFETY, printed[2])

    def test_what_is_wrong_from_the_start_ends_it(self, tmp_path: Path) -> None:
        foreign = tmp_path / "foreign.bin"
        foreign.write_bytes(b"no conversation")
        for arguments, found in (
            (["--intrinsic", "nothing"], "no intrinsic 'nothing'"),
            (["--guard", "nothing"], "no intrinsic 'nothing'"),
            (["--guard", "certainty"], "guard 'certainty'"),
            (["--documents", "-"], "standard input holds the conversation"),
            (["--documents", "none.txt"], "none.txt"),
            (["--load", str(foreign)], "foreign.bin"),
            (["--adapter", "mine=none.gguf"], "none.gguf"),
        ):
            result = chat(*arguments, lines=["Hello!"])
            assert result.returncode == 1
            assert result.stdout == ""
            assert result.stderr.count("\n") == 1
            assert found in result.stderr

    @pytest.mark.parametrize("arguments", [["--intrinsic", ","], ["--adapter", "mine"], ["-n", "x"], ["--temp"]])
    def test_wrong_usage_exits_with_2(self, arguments: list[str]) -> None:
        result = chat(*arguments, lines=[])
        assert result.returncode == 2
        assert "usage" in result.stderr


class Terminal:
    """A pseudo-terminal with the command in it."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        import pty

        self.pid, self.master = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            environment = {**os.environ, "TERM": "xterm", **environment}
            command = [*COMMAND, "chat", "bundled", "-t", "1", *arguments]
            os.execvpe(command[0], command, environment)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str, *, pressing: str = "") -> str:
        """What is printed up to a text, which has to come. Presses a key each second until then."""
        deadline = time.monotonic() + 60
        while text not in self.seen:
            ready = select.select([self.master], [], [], 1.0)[0]
            assert ready or time.monotonic() < deadline, f"{text!r} did not come; there is {self.seen!r}"
            if not ready:
                self.type(pressing)
                continue
            try:
                data = os.read(self.master, 4096)
            except OSError:  # Linux's way to say that the other side is closed
                data = b""
            assert data, f"it ended before {text!r}; there is {self.seen!r}"
            # Newer readlines switch bracketed paste on and off around the prompt.
            self.seen = re.sub(r"\x1b\[\?2004[hl]\r?", "", self.seen + data.decode(errors="replace"))
        found, _, self.seen = self.seen.partition(text)
        return found

    def exit_code(self) -> int:
        """Waits for the end."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            # What is not read could keep it from ending.
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.master, 4096).decode(errors="replace")
                except OSError:
                    time.sleep(0.05)
        raise AssertionError(f"it does not end; there is {self.seen!r}")

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
class TestTerminal:
    @pytest.fixture
    def opened(self) -> Iterator[list[Terminal]]:
        terminals: list[Terminal] = []
        yield terminals
        for terminal in terminals:
            terminal.close()

    def test_ctrl_c_stops_the_reply_and_ctrl_d_leaves(self, opened: list[Terminal]) -> None:
        # So hot, the model seldom ends its reply; now and then it does before the key arrives.
        terminal = Terminal("--intrinsic", "safety", "--temp", "50", "-n", "6000", "-c", "8192", NO_COLOR="1")
        opened.append(terminal)
        assert "after your turn: safety" in terminal.until(PROMPT)
        for _ in range(5):
            terminal.type("/clear\nHello!\n")
            terminal.until("  safety N")
            terminal.until("\n")
            terminal.until(" ")
            terminal.type("\x03")
            if "stopped" in terminal.until(PROMPT):
                break
        else:
            pytest.fail("no reply was stopped")
        terminal.type("/check safety\n")
        assert "\x1b[2m" not in terminal.until("  safety ")
        terminal.until(PROMPT)
        terminal.type("\x04")
        assert terminal.exit_code() == 0

    def test_the_greeting_says_what_is_asked_and_when(self, opened: list[Terminal]) -> None:
        terminal = Terminal()
        opened.append(terminal)
        greeting = terminal.until(PROMPT)
        for part in (
            "after your turn: answerability, jailbreak, safety;",
            "after the reply: certainty, hallucination;",
            "by /check alone: certainty_percent, query_rewrite, safety_sentence;",
        ):
            assert part in greeting
        terminal.type("\x04")
        assert terminal.exit_code() == 0

    def test_ctrl_c_at_the_prompt_drops_the_line(self, opened: list[Terminal]) -> None:
        terminal = Terminal("--intrinsic", "safety")
        opened.append(terminal)
        terminal.until(PROMPT)
        terminal.type("/nothing")
        terminal.until("/nothing")
        # A signal that comes while readline takes a key waits for the next key.
        terminal.type("\x03")
        terminal.until(PROMPT, pressing="\x03")
        terminal.type("/quit\n")
        assert terminal.exit_code() == 0
        assert "error" not in terminal.seen

    def test_verdicts_are_dimmed_in_colour(self, opened: list[Terminal]) -> None:
        terminal = Terminal("--intrinsic", "safety", NO_COLOR="")
        opened.append(terminal)
        terminal.until(PROMPT)
        terminal.type("Hello!\n")
        terminal.until("\x1b[2m  safety N")
        terminal.until(PROMPT)
