"""What the environment may ask of all tests."""

from __future__ import annotations

import os


def pytest_configure() -> None:
    """With ALORA_TEST_GPU_LAYERS set, models that are loaded without saying so have that many layers on the GPU."""
    if "ALORA_TEST_GPU_LAYERS" in os.environ:
        from alora_cpp import Model

        Model.__init__.__kwdefaults__["n_gpu_layers"] = int(os.environ["ALORA_TEST_GPU_LAYERS"])
