"""A chat in a file: what was said, and the KV cache that the model made of it.

The file: a line that names the format, a line of JSON (what it was saved by, the transcript, the length of the rest),
the trunk as `Branch.save` writes it, and the SHA-256 of all that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alora_cpp.errors import ArgumentError

if TYPE_CHECKING:
    from alora_cpp.chat.chat import Chat
    from alora_cpp.chat.transcript import Transcript
    from alora_cpp.context import Context
    from alora_cpp.model import Model

_MAGIC = b"alora-chat 1\n"
_DIGEST_SIZE = hashlib.sha256().digest_size


def write(path: str | os.PathLike[str], transcript: Transcript, context: Context, kv: bytes) -> None:
    """Writes a chat; what was at the path stays until the new file is complete.

    Raises:
        ArgumentError: What the messages hold cannot be written as JSON.
        OSError: The file cannot be written.
    """
    facts = {
        "version": version("alora_cpp"),
        "model": {"name": context.model.name, "fingerprint": context.model.fingerprint},
        "n_ctx": context.n_ctx,
        "n_kv_bytes": len(kv),
        "messages": transcript.messages,
        "documents": transcript.documents,
        "tools": transcript.tools,
        "template_options": transcript.template_options,
        "n_forgotten": transcript.n_forgotten,
        "generated": [[index, text, tokens] for index, (text, tokens) in transcript.generated.items()],
    }
    try:
        line = json.dumps(facts).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"the chat holds what cannot be saved as JSON: {error}") from None
    digest = hashlib.sha256()
    target = Path(path)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            for part in (_MAGIC, line, kv):
                file.write(part)
                digest.update(part)
            file.write(digest.digest())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: str | os.PathLike[str], model: Model) -> tuple[dict[str, Any], bytes]:
    """Reads a chat.

    Returns:
        What was written about it, and the saved trunk.

    Raises:
        ArgumentError: It is no complete chat file, or one of another model or version.
        OSError: The file cannot be read.
    """
    data = Path(path).read_bytes()
    if not data.startswith(_MAGIC):
        raise ArgumentError(f"{path} is no saved chat; expected a file that Chat.save wrote")
    body, digest = data[:-_DIGEST_SIZE], data[-_DIGEST_SIZE:]
    if hashlib.sha256(body).digest() != digest:
        raise ArgumentError(f"{path} is cut off or damaged: its checksum does not fit; save the chat again")
    line, _, kv = body[len(_MAGIC) :].partition(b"\n")
    facts: dict[str, Any] = json.loads(line)
    if facts["version"] != version("alora_cpp"):
        raise ArgumentError(
            f"{path} was saved by version {facts['version']}, this is {version('alora_cpp')}: the KV cache may mean "
            "something else; begin a chat with its messages instead"
        )
    if facts["model"]["fingerprint"] != model.fingerprint:
        raise ArgumentError(
            f"{path} was saved with the model {facts['model']['name']}, this is {model.name}, another file; "
            "load the model it was saved with"
        )
    return facts, kv


def restore(chat: Chat, facts: Mapping[str, Any], kv: bytes) -> None:
    """Gives a new chat with the same messages what was computed for them; closes it where that fails.

    Raises:
        ContextFullError: It does not fit.
    """
    chat.transcript.n_forgotten = facts["n_forgotten"]
    chat.transcript.generated = {index: (text, tokens) for index, text, tokens in facts["generated"]}
    try:
        chat.restore(kv)
    except BaseException:
        chat.close()
        raise
