"""What the base model is trained with: Muon against torch's, and rounding against gguf's reading of Q4_K."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from training.muon import Muon, orthogonal
from training.rounding import as_rounded, round_all, rounded

pytestmark = pytest.mark.oracle

BYTES_A_BLOCK = 144


def held_by_q4_k(blocks: int) -> torch.Tensor:
    """What a Q4_K file with random content holds; every part uses its lowest and highest level."""
    random = np.random.default_rng(5)
    raw = np.zeros((blocks, BYTES_A_BLOCK), dtype=np.uint8)
    raw[:, :4] = random.uniform(0.001, 0.01, (blocks, 2)).astype(np.float16).view(np.uint8)
    scales, depths = random.integers(20, 64, (2, blocks, 8)).astype(np.uint8)
    scales[:, 3] = depths[:, 6] = 63
    # ggml packs eight pairs of six bits into twelve bytes: four whole ones each, and the upper bits of the others.
    raw[:, 4:8] = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    raw[:, 8:12] = depths[:, :4] | (depths[:, 4:] >> 4) << 6
    raw[:, 12:16] = (scales[:, 4:] & 15) | (depths[:, 4:] & 15) << 4
    levels = random.integers(0, 16, (blocks, 8, 32)).astype(np.uint8)
    levels[:, :, 0], levels[:, :, 1] = 0, 15
    raw[:, 16:] = (levels[:, 0::2] | levels[:, 1::2] << 4).reshape(blocks, 128)
    return torch.from_numpy(gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.Q4_K))


def test_what_a_q4_k_file_holds_is_rounded_to_itself() -> None:
    held = held_by_q4_k(200)
    assert held.shape == (200, 256)
    torch.testing.assert_close(rounded(held), held, rtol=1e-5, atol=1e-6)


def test_rounding_is_as_coarse_as_four_bits_and_happens_once() -> None:
    matrix = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    once = rounded(matrix)
    assert max(len(part.unique()) for part in once.reshape(-1, 32)) <= 16
    error = (once - matrix).norm() / matrix.norm()
    assert 0.05 < error < 0.1
    torch.testing.assert_close(rounded(once), once, rtol=1e-5, atol=1e-6)


def test_parameters_are_rounded_within_and_themselves_again_afterwards() -> None:
    parameter = torch.nn.Parameter(torch.randn(4, 256, generator=torch.Generator().manual_seed(2)))
    before = parameter.detach().clone()
    with as_rounded([parameter]):
        assert torch.equal(parameter, rounded(before))
        (parameter * before).sum().backward()
    assert torch.equal(parameter, before)
    assert torch.equal(parameter.grad, before)
    round_all([parameter])
    assert torch.equal(parameter, rounded(before))


@pytest.mark.parametrize("shape", [(3, 64, 256), (2, 256, 64), (1, 96, 96)])
def test_updates_are_nearly_orthogonal(shape: tuple[int, int, int]) -> None:
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(3))))
    assert values.median() > 0.6
    assert values.max() < 1.3


def test_muon_moves_as_torchs_does() -> None:
    generator = torch.Generator().manual_seed(4)
    shapes = [(32, 64), (64, 32), (32, 64)]
    ours, theirs = ([torch.nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    own = Muon(ours, lr=0.02, momentum=0.9, weight_decay=0.1)
    other = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            two.grad = one.grad.clone()
        own.step()
        other.step()
    for one, two in zip(ours, theirs, strict=True):
        # Both iterate in bfloat16, which is good to two digits; a step moves an entry by about 0.02 * 0.2.
        torch.testing.assert_close(one, two, rtol=0, atol=3e-3)
        assert (one - 1).abs().mean() > 5e-3
