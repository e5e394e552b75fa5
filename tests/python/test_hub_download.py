"""Downloads with the real client of the hub against a hub on this machine: what breaks, and what is kept."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_cli_pull import fails, pull

if TYPE_CHECKING:
    from hub_server import Hub

# Several of the client's pieces, which it hands over one by one.
PIECE = 1 << 16
CONTENT = os.urandom(5 * PIECE + 99)
REPO, FILE = "org/tiny", "tiny-Q4_K_M.gguf"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def commit(hub: Hub) -> str:
    return hub.add(REPO, {FILE: CONTENT, "README.md": b"# Tiny\n"})


def download(hub: Hub, home: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with the client set to small pieces."""
    begin = f"from huggingface_hub import constants\nconstants.DOWNLOAD_CHUNK_SIZE = {PIECE}\n"
    begin += "from alora_cpp.hub import download_model\n"
    return subprocess.run(
        [sys.executable, "-c", begin + code],
        capture_output=True,
        text=True,
        env=hub.environment(home, **environment),
    )


def kept(home: Path) -> list[Path]:
    """All files of the cache that hold a model's bytes, whole or in part."""
    return [file for file in home.rglob("blobs/*") if file.stat().st_size > 99]


def test_a_cut_connection_is_taken_up_where_it_broke(hub: Hub, home: Path, commit: str) -> None:
    hub.cuts[FILE] = [2 * PIECE + 10, PIECE + 10]
    result = download(hub, home, f"print(download_model({REPO!r}))")
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).read_bytes() == CONTENT
    assert hub.ranges(FILE) == [None, f"bytes={2 * PIECE}-", f"bytes={3 * PIECE}-"]


def test_a_cancelled_download_goes_on_in_the_next_process(hub: Hub, home: Path, commit: str) -> None:
    result = download(hub, home, f"download_model({REPO!r}, progress=lambda done: done < 0.5)")
    assert result.stderr.splitlines()[-1].startswith("alora_cpp.errors.Cancelled: ")
    (partial,) = kept(home)
    have = partial.stat().st_size
    assert 0 < have < len(CONTENT)
    code = f"""
told = []
print(download_model({REPO!r}, progress=lambda done: told.append(done) or True), *told)
"""
    result = download(hub, home, code)
    path, *told = result.stdout.split()
    assert Path(path).read_bytes() == CONTENT
    assert hub.ranges(FILE) == [None, f"bytes={have}-"]
    assert float(told[0]) > 0.5
    assert float(told[-1]) == 1
    assert told == sorted(told)
    assert [file.read_bytes() for file in kept(home)] == [CONTENT]


@pytest.mark.parametrize("sent", [CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), CONTENT[:-7], CONTENT + b"more"])
def test_what_is_not_as_the_hub_says_leaves_nothing(hub: Hub, home: Path, commit: str, sent: bytes) -> None:
    hub.replaced[FILE] = sent
    said = fails(hub, home, REPO)
    assert ("with the hash" if len(sent) == len(CONTENT) else f"with {len(sent)} bytes") in said
    assert kept(home) == []
    hub.replaced.clear()
    (facts,) = pull(hub, home, REPO)
    assert Path(facts["path"]).read_bytes() == CONTENT


def test_a_partial_file_that_does_not_continue_is_begun_anew(hub: Hub, home: Path, commit: str) -> None:
    hub.replaced[FILE] = bytes(len(CONTENT))
    download(hub, home, f"download_model({REPO!r}, progress=lambda done: done < 0.5)")
    assert kept(home)
    hub.replaced.clear()
    (facts,) = pull(hub, home, REPO)
    assert Path(facts["path"]).read_bytes() == CONTENT
    assert hub.ranges(FILE)[-1] is None


def test_a_damaged_file_in_the_cache_is_replaced(hub: Hub, home: Path, commit: str) -> None:
    path = Path(pull(hub, home, REPO)[0]["path"])
    path.resolve().write_bytes(CONTENT[:-1])
    assert Path(pull(hub, home, REPO)[0]["path"]).read_bytes() == CONTENT


def test_what_is_in_the_cache_is_not_asked_for_again(hub: Hub, home: Path, commit: str) -> None:
    pull(hub, home, REPO)
    hub.requests.clear()
    pull(hub, home, REPO)
    assert [one.path for one in hub.requests] == [f"/api/models/{REPO}/revision/main"]


def test_the_token_goes_to_the_hub_only(hub: Hub, home: Path, commit: str) -> None:
    pull(hub, home, REPO, HF_TOKEN="hf_member")
    seen = {(one.where, one.authorization) for one in hub.requests}
    assert seen == {("hub", "Bearer hf_member"), ("files", None)}


def test_gated_private_and_missing(hub: Hub, home: Path) -> None:
    hub.add("org/gated", {FILE: CONTENT}, gated=True)
    hub.add("org/private", {FILE: CONTENT}, private=True)
    for token in ({}, {"HF_TOKEN": "hf_stranger"}):
        said = fails(hub, home, "org/gated", **token)
        assert f"open {hub.endpoint}/org/gated" in said
        assert "hf auth login" in said
        for repo in ("org/private", "org/nothing"):
            said = fails(hub, home, repo, **token)
            assert f"no repository {repo}" in said
            assert "hf auth login" in said
    assert "does not accept the token (401)" in fails(hub, home, "org/gated", HF_TOKEN="hf_expired")
    for repo in ("org/gated", "org/private"):
        assert Path(pull(hub, home, repo, HF_TOKEN="hf_member")[0]["path"]).read_bytes() == CONTENT


def test_files_that_are_not_there(hub: Hub, home: Path, commit: str) -> None:
    said = fails(hub, home, f"{REPO}:Q8_0")
    assert f"none that is Q8_0; it has {FILE}" in said
    assert "none that is *.bin" in fails(hub, home, REPO, "--file", "*.bin")
    hub.lost.add(FILE)
    assert "lists a file that" in fails(hub, home, REPO)
    assert kept(home) == []


def test_offline_takes_what_is_cached_and_says_what_is_not(hub: Hub, home: Path, commit: str) -> None:
    said = fails(hub, home, REPO, HF_HUB_OFFLINE="1")
    assert "offline mode is on" in said
    assert f"{REPO} at revision main is not in the cache {home}" in said
    path = pull(hub, home, REPO)[0]["path"]
    hub.requests.clear()
    for arguments in ((REPO,), (REPO, "--revision", commit), (f"{REPO}:Q4_K_M",)):
        assert pull(hub, home, *arguments, HF_HUB_OFFLINE="1")[0]["path"] == path
    assert "--revision" not in fails(hub, home, REPO, "--revision", "v2", HF_HUB_OFFLINE="1")
    assert hub.requests == []


def test_no_hub_at_all_takes_what_is_cached(hub: Hub, home: Path, commit: str) -> None:
    path = pull(hub, home, REPO)[0]["path"]
    hub.failing[REPO] = 503
    assert pull(hub, home, REPO)[0]["path"] == path
    hub.stop()
    assert pull(hub, home, REPO)[0]["path"] == path
    said = fails(hub, home, "org/other")
    assert f"{hub.endpoint} cannot be reached" in said
    assert "not in the cache" in said


def test_an_answer_that_is_none_of_a_hub(hub: Hub, home: Path, commit: str) -> None:
    hub.failing[REPO] = 200
    assert "did not answer as a hub does" in fails(hub, home, REPO)
    hub.failing[REPO] = 429
    assert "too many requests" in fails(hub, home, REPO)


def test_two_pulls_at_once_download_once(hub: Hub, home: Path, commit: str) -> None:
    command = [sys.executable, "-m", "alora_cpp.cli.main", "pull", f"{REPO}:Q4_K_M"]
    hub.holds[FILE] = threading.Event()
    pulls = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=hub.environment(home))
        for _ in range(2)
    ]
    while sum(one.path.startswith("/api/models/") for one in hub.requests) < 2 and pulls[0].poll() is None:
        time.sleep(0.05)
    # Both know what they want: time enough for the second to ask for it, if it did not wait for the first.
    time.sleep(2)
    hub.holds[FILE].set()
    said = [one.communicate() for one in pulls]
    assert [one.returncode for one in pulls] == [0, 0], said
    assert {Path(out.strip()).read_bytes() for out, _ in said} == {CONTENT}
    assert hub.ranges(FILE) == [None]
    assert {err for _, err in said} == {""}


def test_all_parts_of_a_split_model(hub: Hub, home: Path) -> None:
    parts = {f"big-Q4_K_M-0000{i}-of-00003.gguf": b"part %d" % i for i in (1, 2, 3)}
    hub.add("org/split", {f"Q4_K_M/{name}": body for name, body in parts.items()})
    path = Path(pull(hub, home, "org/split:Q4_K_M")[0]["path"])
    assert path.name == "big-Q4_K_M-00001-of-00003.gguf"
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == parts
    hub.add("org/half", dict(list(parts.items())[:2]))
    assert "has 3 parts, but only 2 are in the repository" in fails(hub, home, "org/half")


@pytest.mark.parametrize("name", ["../../../../evil.gguf", "/evil.gguf", "a/./evil.gguf", "a/..\\..\\evil.gguf"])
def test_no_name_leads_outside_the_cache(hub: Hub, home: Path, tmp_path: Path, name: str) -> None:
    hub.add("org/evil", {name: b"evil"})
    assert "could lead outside the cache" in fails(hub, home, "org/evil")
    assert not list(tmp_path.rglob("*evil.gguf"))
    assert not any(one.where == "files" for one in hub.requests)


def test_a_model_by_its_reference(hub: Hub, home: Path, model_path: Path) -> None:
    hub.add(REPO, {FILE: model_path.read_bytes(), "tiny-Q8_0.gguf": b"not this one"})
    code = f"""
from alora_cpp import Model
told = []
tell = lambda done: told.append(done) or True
with Model.from_pretrained({REPO!r}, "*Q4_K_M.gguf", n_gpu_layers=0, progress=tell) as model:
    print(model.path, model.name, max(told))
"""
    path, name, most = download(hub, home, code).stdout.split()
    assert Path(path).read_bytes() == model_path.read_bytes()
    assert (name, most) == ("tiny-llama", "1.0")


def test_an_intrinsic_by_its_reference(hub: Hub, home: Path, model_path: Path, adapter_paths: list[Path]) -> None:
    hub.add("org/adapters", {"random-1.gguf": adapter_paths[1].read_bytes()})
    code = f"""
from alora_cpp import Model
with Model({str(model_path)!r}) as model:
    print(model.load_intrinsic("org/adapters#random-1").name)
"""
    result = download(hub, home, code)
    assert result.stdout == "random-1\n", result.stderr


def test_what_was_pulled_is_remembered(hub: Hub, home: Path, adapter_paths: list[Path]) -> None:
    commit = hub.add("org/adapters", {"random-1.gguf": adapter_paths[1].read_bytes()})
    pull(hub, home, "org/adapters")
    pull(hub, home, "org/adapters")
    (home / "alora_cpp" / "pulled" / "strange.json").write_text("[1")
    code = """
import json
from alora_cpp.hub import pulled
print(json.dumps([[one.name, one.repo, one.revision, one.base, one.kind, one.path.name, one.when] for one in pulled()]))
"""
    (note,) = json.loads(download(hub, home, code).stdout)
    assert note[:6] == ["random-1", "org/adapters", commit, None, "alora", "random-1.gguf"]
    assert note[6].endswith("+00:00")
    (facts,) = pull(hub, home, "org/adapters")
    Path(facts["path"]).unlink()
    assert json.loads(download(hub, home, code).stdout) == []


def test_progress_bars_are_for_terminals(hub: Hub, home: Path, commit: str) -> None:
    command = [sys.executable, "-m", "alora_cpp.cli.main", "pull", REPO]
    quiet = subprocess.run(command, capture_output=True, text=True, env=hub.environment(home / "piped"))
    assert quiet.stderr == ""
    assert quiet.stdout.count("\n") == 1
    pty, termios, fcntl = (pytest.importorskip(name) for name in ("pty", "termios", "fcntl"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=hub.environment(home)) as process:
        assert process.stdout is not None
        printed = process.stdout.read().decode()
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert FILE in shown
    assert "100%" in shown
    assert printed.count("\n") == 1
