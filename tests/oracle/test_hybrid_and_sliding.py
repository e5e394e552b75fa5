"""Bases whose memory is more than one cell a token: recurrent layers, and layers that attend to the last tokens only.

A fork under an adapter, and the trunk that goes on afterwards, against PEFT and transformers reading it all in one go.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alora_cpp import Model, PositionError
from alora_cpp.convert import convert_adapter
from oracle.cases import TOLERANCE
from oracle.engine import UBATCHES, largest_difference, make_context
from oracle.tiny_models import (
    ALL_LINEAR,
    HYBRID_FAMILIES,
    INVOCATION,
    N_VOCAB,
    SLIDING_FAMILIES,
    AdapterSpec,
    make_model,
    write_adapter,
    write_gguf,
    write_hf,
)

if TYPE_CHECKING:
    from oracle import peft_oracle
else:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    from oracle import peft_oracle

pytestmark = pytest.mark.oracle

# Much shorter than the prompt, so that it matters which cells a row sees.
WINDOW = 12
PROMPT, MORE, AFTER, EARLIER = 40, 5, 9, 25


@pytest.mark.parametrize("n_ubatch", UBATCHES)
@pytest.mark.parametrize("family", [*HYBRID_FAMILIES, *SLIDING_FAMILIES])
def test_a_check_and_the_return_to_base(family: str, n_ubatch: int, tmp_path: Path) -> None:
    """Tried with: lineage_table::sees ignoring `end`, and a model written with another window."""
    tiny = make_model(family, seed=3, changes={"sliding_window": WINDOW} if family in SLIDING_FAMILIES else {})
    gguf, folder = write_gguf(tiny, tmp_path / "base.gguf"), write_hf(tiny, tmp_path / "base")
    peft_folder = write_adapter(tiny, AdapterSpec(targets=ALL_LINEAR), tmp_path / "adapter", seed=3, base=str(folder))
    adapted = peft_oracle.load_adapter(peft_oracle.load_base(folder), peft_folder)
    random = np.random.Generator(np.random.PCG64([7, 6000]))
    drawn = [int(token) for token in random.integers(10, N_VOCAB, PROMPT + MORE + AFTER)]
    prompt, more, after = drawn[:PROMPT], drawn[PROMPT : PROMPT + MORE], drawn[PROMPT + MORE :]
    with Model(gguf) as model, make_context(model, n_ubatch=n_ubatch) as context:
        adapter = model.load_adapter(convert_adapter(peft_folder, tmp_path / "a.gguf", base=gguf, outtype="f32"))
        trunk = context.branch()
        trunk.append(prompt)
        context.decode()
        fork, back = trunk.fork(), None
        fork.activate(adapter)
        fork.append([*INVOCATION, *more])
        trunk.append(after)
        if family in HYBRID_FAMILIES:
            with pytest.raises(PositionError, match="cannot go back"):
                trunk.fork(at=EARLIER)
        else:
            back = trunk.fork(at=EARLIER)
            back.activate(adapter)
            back.append(INVOCATION)
        context.decode()
        called = peft_oracle.logits(adapted, [*prompt, *INVOCATION, *more])
        assert largest_difference(fork.logits(), called[-1]) < TOLERANCE
        if back is not None:
            earlier = peft_oracle.logits(adapted, [*prompt[:EARLIER], *INVOCATION])
            assert largest_difference(back.logits(), earlier[-1]) < TOLERANCE
        with adapted.disable_adapter():
            plain = peft_oracle.logits(adapted, [*prompt, *after])
        assert largest_difference(trunk.logits(), plain[-1]) < TOLERANCE
