"""A small Hugging Face hub on 127.0.0.1: what the real client asks for, and faults to order.

Speaks the hub's public HTTP interface: model information with hashes, branches and tags, and files at a revision. Files
of LFS are redirected to another port, as the hub redirects to another host; ranges are honoured. No xet.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# What the hub keeps in LFS.
_LARGE = (".gguf", ".safetensors", ".bin")
_GOOD_TOKEN, _STRANGER_TOKEN = "hf_member", "hf_stranger"


@dataclass
class HubRepository:
    """A repository: its branches and tags, and the files of each commit."""

    refs: dict[str, str]
    commits: dict[str, dict[str, bytes]]
    gated: bool = False
    private: bool = False


@dataclass(frozen=True)
class Request:
    """What was asked: `where` is `hub` or `files`, the port that large files are redirected to."""

    where: str
    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Hub:
    """The hub: repositories, faults to show, and what was asked for."""

    repositories: dict[str, HubRepository] = field(default_factory=dict)
    # By a large file's name: after how many bytes each of the next answers breaks off.
    cuts: dict[str, list[int]] = field(default_factory=dict)
    # By a large file's name: what is sent instead of its content.
    replaced: dict[str, bytes] = field(default_factory=dict)
    # By repository: the HTTP status that its information comes with.
    failing: dict[str, int] = field(default_factory=dict)
    # By a large file's name: what to wait for before its content is sent.
    holds: dict[str, threading.Event] = field(default_factory=dict)
    # Paths that are listed, but not there.
    lost: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    _servers: list[_Server] = field(default_factory=list)

    def add(self, name: str, files: Mapping[str, bytes], *, ref: str = "main", **options: bool) -> str:
        """Commits files to a branch of a repository; gives the commit's hash."""
        commit = hashlib.sha1(repr((name, sorted(files.items()))).encode()).hexdigest()
        repository = self.repositories.setdefault(name, HubRepository({}, {}, **options))
        repository.refs[ref] = commit
        repository.commits[commit] = dict(files)
        return commit

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['hub']}"

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """The variables of a process whose client knows no other hub than this, and no cache but its own."""
        kept = {name: value for name, value in os.environ.items() if not re.match(r"(?i)HF_|HUGGING|.*_proxy$", name)}
        own = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "NO_PROXY": "*"}
        quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return {**kept, **own, **quiet, **more}

    def ranges(self, suffix: str) -> list[str | None]:
        """The ranges that were sent of a large file, in order; without those of its first bytes only."""
        sent = [one for one in self.requests if one.where == "files" and one.method == "GET"]
        asked = [one.range for one in sent if one.path.endswith(suffix)]
        return [one for one in asked if one is None or not one.startswith("bytes=0-")]

    def start(self) -> None:
        for where in ("hub", "files"):
            handler = type("Handler", (_Handler,), {"hub": self, "where": where})
            server = _Server(("127.0.0.1", 0), handler)
            self.ports[where] = server.server_address[1]
            self._servers.append(server)
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    where: str

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        quoted = urlsplit(self.path).path
        path = unquote(quoted)
        asked = Request(self.where, self.command, path, self.headers["Range"], self.headers["Authorization"])
        self.hub.requests.append(asked)
        if self.where == "files":
            self._send_file(path, self._large_file(path))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(refs)|/revision/(.+))?", quoted):
            self._send_information(match[1], unquote(match[3] or "main"), refs=match[2] is not None)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", quoted):
            self._send_resolved(match[1], unquote(match[2]), unquote(match[3]))
        else:
            self._refuse(404, "", "no such page")

    def _repository(self, name: str) -> HubRepository | None:
        """The repository, unless it may not be seen: then the answer is sent."""
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        repository = self.hub.repositories.get(name)
        if token not in ("", _GOOD_TOKEN, _STRANGER_TOKEN):
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif repository is None or (repository.private and token != _GOOD_TOKEN):
            # Whether a repository exists is nobody's business who is not logged in.
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        else:
            return repository
        return None

    def _commit(self, repository: HubRepository, revision: str) -> str | None:
        commit = repository.refs.get(revision, revision)
        if commit in repository.commits:
            return commit
        self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _send_information(self, name: str, revision: str, *, refs: bool) -> None:
        if status := self.hub.failing.get(name):
            self._refuse(status, "", "as ordered")
        elif (repository := self._repository(name)) is None:
            return
        elif refs:
            branches = [
                {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": at} for ref, at in repository.refs.items()
            ]
            self._send_json({"branches": branches, "tags": [], "converts": []})
        elif commit := self._commit(repository, revision):
            siblings = [self._sibling(path, content) for path, content in repository.commits[commit].items()]
            self._send_json({"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []})

    def _sibling(self, path: str, content: bytes) -> dict[str, Any]:
        size = len(content)
        facts: dict[str, Any] = {"rfilename": path, "size": size, "blobId": git_hash(content)}
        if path.endswith(_LARGE):
            facts["lfs"] = {"size": size, "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 134}
        return facts

    def _send_resolved(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name)
        commit = repository and self._commit(repository, revision)
        if repository is None or commit is None:
            return
        if repository.gated and self.headers["Authorization"] != f"Bearer {_GOOD_TOKEN}":
            status = 403 if self.headers["Authorization"] else 401
            self._refuse(status, "GatedRepo", f"Access to model {name} is restricted")
        elif path not in repository.commits[commit] or path in self.hub.lost:
            self._refuse(404, "EntryNotFound", "Entry not found")
        else:
            content = repository.commits[commit][path]
            if path.endswith(_LARGE):
                self._redirect(name, commit, path, content)
            else:
                self._send_file(path, content, {"X-Repo-Commit": commit, "ETag": f'"{git_hash(content)}"'})

    def _redirect(self, name: str, commit: str, path: str, content: bytes) -> None:
        self.send_response(302)
        self.send_header("Location", f"http://127.0.0.1:{self.hub.ports['files']}/{name}/{commit}/{path}")
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _large_file(self, path: str) -> bytes:
        owner, name, commit, rest = path.removeprefix("/").split("/", 3)
        return self.hub.repositories[f"{owner}/{name}"].commits[commit][rest]

    def _send_file(self, path: str, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        name = path.rpartition("/")[2]
        content = self.hub.replaced.get(name, content)
        begin, end = 0, len(content)
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or ""):
            begin, end = int(match[1]), min(end, int(match[2] or end) + 1)
            if begin >= len(content):
                self._refuse(416, "", "range not satisfiable")
                return
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if self.command == "HEAD":
            return
        if hold := self.hub.holds.get(name):
            hold.wait(timeout=60)
        cuts = self.hub.cuts.get(name)
        if cuts:
            end = min(end, begin + cuts.pop(0))
            self.close_connection = True
        self.wfile.write(content[begin:end])

    def _send_json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
