"""How fast a model and its adapters are on this machine: the same work done in several ways, in alternation."""

from __future__ import annotations

from alora_cpp.bench.buffers import overheard
from alora_cpp.bench.callees import callees
from alora_cpp.bench.measured import COMPARED, Measured, Measurements
from alora_cpp.bench.measuring import N_NEW, measure
from alora_cpp.bench.setting import Setting, describe

__all__ = ["COMPARED", "N_NEW", "Measured", "Measurements", "Setting", "callees", "describe", "measure", "overheard"]
