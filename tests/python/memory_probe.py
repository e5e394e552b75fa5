"""Run as a script: says for a model, and for contexts of it, what they were said to need and what they then took.

With an address space that has no room for it, each is refused and says what it needs; then it is made after all.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from alora_cpp import AloraError, Context, Model

MIB = 1 << 20


def _status(name: str) -> int:
    """Bytes that Linux tells of this process."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return 1024 * int(found[1])


def _refused(make: Callable[[], object], *, room: int) -> dict[str, Any]:
    """The error where the process may grow by so many bytes, and the two numbers in it."""
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + room, resource.RLIM_INFINITY))
    try:
        make()
    except AloraError as error:
        needed, available = map(int, re.findall(r"\((\d+) bytes\)", str(error)))
        return {"error": type(error).__name__, "needed": needed, "available": available}
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {}


def _fill(context: Context) -> None:
    branch = context.branch()
    branch.append([20] * 2000)
    context.decode()


def main(path: str, contexts: list[dict[str, Any]]) -> None:
    """Prints a line of JSON for the model, then one for each context."""
    # In a wheel, the processor's kernels are a library that is loaded with the first model.
    Model(path, vocabulary_only=True).close()
    found = _refused(lambda: Model(path), room=6 * MIB) if Path(path).stat().st_size > 8 * MIB else {}
    before = _status("RssAnon")
    model = Model(path)
    print(json.dumps(found | {"taken": _status("RssAnon") - before}))
    for options in contexts:
        make = partial(model.context, n_threads=1, **options)
        found = _refused(make, room=MIB)
        before = _status("RssAnon")
        with make() as context:
            _fill(context)
            print(json.dumps(found | {"taken": _status("RssAnon") - before}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
