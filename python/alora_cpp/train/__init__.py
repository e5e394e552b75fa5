"""Trains intrinsics: from labelled conversations to an adapter that runs. Needs the extra `train` once it is used."""

from typing import TYPE_CHECKING

from alora_cpp.on_demand import on_demand
from alora_cpp.train.options import TrainingOptions

# The command line reads the options before anyone trains.
if TYPE_CHECKING:
    from alora_cpp.train.training import TrainingReport, train_adapter
else:
    __getattr__, __dir__ = on_demand(
        __name__, dict.fromkeys(("TrainingReport", "train_adapter"), "alora_cpp.train.training")
    )

__all__ = ["TrainingOptions", "TrainingReport", "train_adapter"]
