"""Lets the tests import shared modules, however pytest was started, and gives them a tiny model with four adapters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(folder) for folder in (_HERE, _HERE.parent) if str(folder) not in sys.path]

if TYPE_CHECKING:
    from hub_server import Hub
    from isolated import Workers

    from alora_cpp import Adapter, Context, Model
    from oracle.tiny_models import TinyModel


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="session")
def tiny_model() -> TinyModel:
    from tiny import make_model

    return make_model("llama")


@pytest.fixture(scope="session")
def model_path(folder: Path, tiny_model: TinyModel) -> Path:
    from tiny import write_gguf

    return write_gguf(tiny_model, folder / "model.gguf")


@pytest.fixture(scope="session")
def adapter_paths(folder: Path, tiny_model: TinyModel) -> list[Path]:
    """Files of four adapters that differ in rank, targets and weights, not in their invocation."""
    from oracle.tiny_models import ALL_LINEAR, ATTENTION
    from tiny import adapter_file

    shapes = [(4, ALL_LINEAR), (8, ATTENTION), (4, ATTENTION), (16, ALL_LINEAR)]
    return [
        adapter_file(tiny_model, seed=i, rank=rank, targets=targets).write(folder / f"adapter-{i}.gguf")
        for i, (rank, targets) in enumerate(shapes)
    ]


@pytest.fixture(scope="session")
def model(model_path: Path) -> Iterator[Model]:
    from alora_cpp import Model

    with Model(model_path) as model:
        yield model


@pytest.fixture(scope="session")
def adapters(model: Model, adapter_paths: list[Path]) -> list[Adapter]:
    return [model.load_adapter(path) for path in adapter_paths]


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    from tiny import open_exact

    with open_exact(model) as context:
        yield context


@pytest.fixture(scope="session")
def bundled() -> Iterator[Model]:
    from alora_cpp import Model

    with Model.bundled() as model:
        yield model


@pytest.fixture(scope="module")
def chat_model(
    model_path: Path, adapter_paths: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    """A tiny model with a chat template and an intrinsic of every kind."""
    from alora_cpp import Model
    from tiny_chats import load_kinds, write_chat_model

    folder = tmp_path_factory.mktemp("chats")
    with Model(write_chat_model(model_path, folder / "model.gguf")) as model:
        load_kinds(model, adapter_paths, folder)
        yield model


@pytest.fixture
def hub() -> Iterator[Hub]:
    """An empty hub on this machine; processes with its `environment` know no other."""
    from hub_server import Hub

    hub = Hub()
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test and the processes that it starts."""
    from huggingface_hub import constants

    home = tmp_path / "hf_home"
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    return home


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    """The worker processes that are started during a test."""
    from isolated import Workers

    from alora_cpp.isolation import command

    return Workers.noted(monkeypatch, command.subprocess)
