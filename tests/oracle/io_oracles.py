"""granite-common and mellea behind one interface: both rewrite requests and process answers as an `io.yaml` says."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from alora_cpp.io import AnswerToken

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Oracle:
    """One of the two libraries."""

    name: str
    intrinsics: Any
    types: Any

    def rewrite(self, text: str, messages: Records, documents: Records, arguments: Mapping[str, str]) -> Any:
        """The request it makes, in its own type."""
        # An empty extra_body keeps granite-common from failing where it looks for documents.
        extra_body = {"documents": documents} if documents else {}
        request = self.types.ChatCompletion.model_validate({"messages": messages, "extra_body": extra_body})
        return self.intrinsics.IntrinsicsRewriter(config_dict=yaml.safe_load(text)).transform(request, **arguments)

    def process(self, text: str, answer: str, request: Any, tokens: Sequence[AnswerToken] = ()) -> Any:
        """The result it makes of an answer."""
        content = [
            {
                "token": token.text,
                "logprob": token.logprob,
                "top_logprobs": [{"token": top, "logprob": logprob} for top, logprob in token.top],
            }
            for token in tokens
        ]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer},
            "logprobs": {"content": content},
        }
        processor = self.intrinsics.IntrinsicsResultProcessor(config_dict=yaml.safe_load(text))
        return json.loads(processor.transform({"choices": [choice]}, request).choices[0].message.content)


def granite_common() -> Oracle:
    """granite-common, which is no longer developed."""
    intrinsics = pytest.importorskip("granite_common.intrinsics")
    return Oracle("granite-common", intrinsics, importlib.import_module("granite_common.base.types"))


def mellea() -> Oracle:
    """mellea's formatters alone: mellea itself imports servers and clients that they do not need."""
    spec = importlib.util.find_spec("mellea")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mellea is not installed")
    folder = Path(spec.submodule_search_locations[0], "formatters", "granite")
    alias = "mellea_formatters_granite"
    if alias not in sys.modules:
        package = importlib.util.spec_from_file_location(
            alias, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert package is not None
        assert package.loader is not None
        sys.modules[alias] = importlib.util.module_from_spec(package)
        package.loader.exec_module(sys.modules[alias])
    return Oracle(
        "mellea", importlib.import_module(f"{alias}.intrinsics"), importlib.import_module(f"{alias}.base.types")
    )


ORACLES = {"granite-common": granite_common, "mellea": mellea}
