"""What llama-server's base says after a check, and without one, in a process of its own (`test_stock_contenders.py`).

Arguments: `lists` or `none`, whether requests to the base list adapters; then a JSON of the contender's files.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.peers.contender import Files, Setting
from benchmarks.peers.llama_server import AloraServer


class Told(AloraServer):
    """Keeps the probability of the last token that was written."""

    log_probability = 0.0

    def _request(self, *arguments: Any) -> dict[str, Any]:
        wanted = {"n_probs": 1, "response_fields": ["tokens", "timings", "completion_probabilities"]}
        return super()._request(*arguments) | wanted

    def _post(self, *arguments: Any) -> dict[str, Any]:
        answer = super()._post(*arguments)
        self.log_probability = answer["completion_probabilities"][-1]["logprob"]
        return answer


def main() -> None:
    """Prints a line of JSON: log-probabilities, and the rows that the base read after the check."""
    found = json.loads(sys.argv[2])
    server = Told()
    files = Files(Path(found["model"]), tuple(Path(path) for path in found["adapters"]))
    server.load(files, Setting(512, 1, tuple(found["invocation"]), 0))
    if sys.argv[1] == "none":
        server._base = replace(server._base, adapters=None)
    said = {}
    for when in ("unasked", "asked"):
        server.begin(found["prompt"])
        if when == "asked":
            server.ask([0], 1)
        server.extend(found["turn"])
        said["evaluated"] = server.write(1).evaluated
        said[when] = server.log_probability
    server.close()
    print("SAID", json.dumps(said))


if __name__ == "__main__":
    main()
