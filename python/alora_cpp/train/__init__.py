"""Trains intrinsics: from labelled conversations to an adapter that runs. Needs the extra `train` once it is used."""

from alora_cpp.train.options import TrainingOptions
from alora_cpp.train.training import TrainingReport, train_adapter

__all__ = ["TrainingOptions", "TrainingReport", "train_adapter"]
