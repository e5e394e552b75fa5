"""Models and adapters of the hub where a path is expected, with the real client against a hub on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alora_cpp.bundled_model import BUNDLED
from tiny import Key, Kind, rewrite_gguf

if TYPE_CHECKING:
    from hub_server import Hub


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Any:
    """Runs `alora-cli` with an empty cache; the hub has the bundled model, and its safety adapter as `harm`."""
    hub.add("org/tiny", {"tiny-Q8_0.gguf": BUNDLED.read_bytes()})
    safety = BUNDLED.with_name(f"{BUNDLED.stem}.safety.gguf")
    adapter = rewrite_gguf(safety, tmp_path / "harm.gguf", general__name=Key("harm", Kind.STRING))
    hub.add("org/adapters", {"harm.gguf": adapter.read_bytes()})

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alora_cpp.cli.main", *arguments]
        env = hub.environment(tmp_path / "home", **environment)
        return subprocess.run(command, capture_output=True, text=True, env=env)

    return run


def test_a_model_and_an_adapter_by_reference(run: Any) -> None:
    asked = ["--prompt", "Hello", "--json", "-t", "1"]
    result = run("run", "org/tiny:Q8_0", *asked, "--intrinsic", "mine", "--adapter", "mine=org/adapters#harm")
    assert result.returncode == 0, result.stderr
    assert set(json.loads(result.stdout)["verdicts"]["mine"]["probabilities"]) == {"Y", "N"}
    # All of it is in the cache now.
    again = run(
        *("run", "org/tiny:Q8_0", *asked, "--intrinsic", "mine", "--adapter", "mine=org/adapters#harm"),
        HF_HUB_OFFLINE="1",
    )
    assert again.returncode == 0, again.stderr


def test_what_was_pulled_is_found_by_name(run: Any) -> None:
    asked = ["run", "org/tiny", "--prompt", "Hello", "--json", "-t", "1", "--intrinsic", "harm"]
    missing = run(*asked)
    assert missing.returncode == 1
    assert "no intrinsic 'harm' was found for tiny-Q8_0.gguf" in missing.stderr
    assert run("pull", "org/adapters", "--intrinsic", "harm").returncode == 0
    found = run(*asked)
    assert found.returncode == 0, found.stderr
    adapters = json.loads(run("list", "org/tiny", "--json").stdout)["adapters"]
    assert [(one["name"], one["from"], one["taken"]) for one in adapters][:1] == [("harm", "pulled", True)]


def test_a_repository_that_is_not_there(run: Any) -> None:
    result = run("run", "org/nothing", "--prompt", "x", "--intrinsic", "harm")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "org/nothing" in result.stderr
