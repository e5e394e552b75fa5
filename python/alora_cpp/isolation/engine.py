"""What `alora_cpp._core` has for models, of which each computes in a process of its own."""

from __future__ import annotations

from alora_cpp.isolation.branch import Branch
from alora_cpp.isolation.context import Context
from alora_cpp.isolation.generation import Generation, Scoring
from alora_cpp.isolation.model import Adapter, Model

__all__ = ["Adapter", "Branch", "Context", "Generation", "Model", "Scoring"]
