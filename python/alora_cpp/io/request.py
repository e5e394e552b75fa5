"""The conversation as an intrinsic reads it: sentences tagged, documents moved, its instruction appended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alora_cpp.errors import ArgumentError
from alora_cpp.io.config import DocsAsMessage, IoConfig
from alora_cpp.io.sentences import Sentence, tag_sentences

_DOCUMENT_FIELDS = ("text", "title", "doc_id")


@dataclass(frozen=True)
class Request:
    """A conversation, rewritten for an intrinsic.

    Attributes:
        messages: The messages.
        documents: The documents that are left to the chat template.
        n_instructions: How many messages were appended: 0 or 1.
        sentences: The tagged sentences, by the place of `sentence_boundaries` they are in.
    """

    messages: tuple[dict[str, Any], ...] = ()
    documents: tuple[dict[str, Any], ...] = ()
    n_instructions: int = 0
    sentences: Mapping[str, tuple[Sentence, ...]] = field(default_factory=dict)


def rewrite_request(
    config: IoConfig,
    messages: Sequence[Mapping[str, Any]],
    documents: Sequence[Mapping[str, Any]] = (),
    arguments: Mapping[str, object] | None = None,
) -> Request:
    """Rewrites a conversation as an `io.yaml` says. What is given stays as it is.

    In this order: the last message's sentences are tagged; those of the documents and then of the earlier messages, in
    one numbering; documents become messages; the instruction is appended.

    Args:
        config: The `io.yaml`.
        messages: The conversation. Messages whose content is no text keep it as it is.
        documents: Mappings with `text`, and maybe `title` and `doc_id`; texts all of them.
        arguments: What the instruction inserts, by name; more than it needs may be there. `{last_message}` is the last
            message's text, whatever is given for it.

    Raises:
        ArgumentError: There is no last message to tag or insert, an argument is missing, or a document is not as above.
    """
    for index, document in enumerate(documents):
        _check_document(document, index)
    rewriting = _Rewriting([dict(message) for message in messages], [dict(document) for document in documents])
    rewriting.tag(config.sentence_boundaries)
    if config.docs_as_message and rewriting.documents:
        rewriting.messages[:0] = documents_as_messages(rewriting.documents, config.docs_as_message)
        rewriting.documents.clear()
    if config.instruction is not None:
        last = rewriting.messages[-1].get("content") if rewriting.messages else None
        given = dict(arguments or {}) | ({"last_message": last} if isinstance(last, str) else {})
        rewriting.messages.append({"role": "user", "content": config.instruction.fill(given)})
    return Request(
        messages=tuple(rewriting.messages),
        documents=tuple(rewriting.documents),
        n_instructions=int(config.instruction is not None),
        sentences={place: tuple(sentences) for place, sentences in rewriting.sentences.items()},
    )


def documents_as_messages(documents: Sequence[Mapping[str, Any]], how: DocsAsMessage) -> list[dict[str, Any]]:
    """Documents as the messages that a conversation begins with, worded as granite-common and mellea word them.

    Raises:
        ArgumentError: Documents become roles, and one has no `doc_id` to name its role.
    """
    if how == "roles":
        for index, document in enumerate(documents):
            if not document.get("doc_id"):
                raise ArgumentError(f"document {index} has no doc_id, which the intrinsic needs to name its role")
        return [{"role": f"document {document['doc_id']}", "content": document["text"]} for document in documents]
    if how == "json":
        known = [{name: document[name] for name in _DOCUMENT_FIELDS if name in document} for document in documents]
        return [{"role": "user", "content": json.dumps(known)}]
    listed = "\n\n".join(f"[Document {document.get('doc_id')}]\n{document['text']}" for document in documents)
    return [{"role": "user", "content": f"You have access to the following documents:\n\n{listed}"}]


def _check_document(document: Mapping[str, Any], index: int) -> None:
    if not isinstance(document, Mapping) or not isinstance(document.get("text"), str):
        raise ArgumentError(
            f"document {index} has no text, expected a mapping with 'text', and maybe 'title', 'doc_id'"
        )
    for name in ("title", "doc_id"):
        if not isinstance(document.get(name), str | None):
            raise ArgumentError(f"document {index} has the {name} {document[name]!r:.100}, expected a text")


@dataclass
class _Rewriting:
    """Copies of what was given, being rewritten."""

    messages: list[dict[str, Any]]
    documents: list[dict[str, Any]]
    sentences: dict[str, list[Sentence]] = field(default_factory=dict)

    def tag(self, boundaries: Mapping[str, str]) -> None:
        """Tags sentences. The last message counts from 0; documents and earlier messages count on from one another."""
        for place in boundaries:
            self.sentences[place] = []
        if tag := boundaries.get("last_message"):
            if not self.messages:
                raise ArgumentError("the intrinsic reads the last message, and the conversation has none")
            self._tag("last_message", self.messages[-1], "content", tag, 0)
        count = 0
        if tag := boundaries.get("documents"):
            for document in self.documents:
                count = self._tag("documents", document, "text", tag, count, document_id=document.get("doc_id"))
        if tag := boundaries.get("all_but_last_message"):
            for index, message in enumerate(self.messages[:-1]):
                count = self._tag("all_but_last_message", message, "content", tag, count, message_index=index)

    def _tag(
        self,
        place: str,
        item: dict[str, Any],
        key: str,
        tag: str,
        first: int,
        *,
        document_id: str | None = None,
        message_index: int | None = None,
    ) -> int:
        """Tags one text in place; returns the number that comes next."""
        if not isinstance(text := item.get(key), str):
            return first
        item[key], found = tag_sentences(text, tag, first, document_id=document_id, message_index=message_index)
        self.sentences[place] += found
        return first + len(found)
