"""Run intrinsics on your own machine: small adapters that judge a conversation on the base model's KV cache."""

from typing import TYPE_CHECKING

from alora_cpp.errors import (
    AdapterError,
    AdapterMismatchError,
    AdapterNotFoundError,
    AloraError,
    AnswerError,
    ArgumentError,
    BackendError,
    Cancelled,
    ClosedError,
    ContextFullError,
    ConversionError,
    HubError,
    InvocationNotFoundError,
    ModelLoadError,
    PositionError,
    TokenError,
    TrainingError,
    WorkerCrashed,
)
from alora_cpp.on_demand import on_demand

# Who imports the package need not wait for numpy and all that works here: names come when they are used.
if TYPE_CHECKING:
    from alora_cpp.adapter import Adapter
    from alora_cpp.branch import Branch
    from alora_cpp.chat import Chat
    from alora_cpp.chat.guards import GuardCheck
    from alora_cpp.chat.reply import AsyncReply, Reply
    from alora_cpp.context import Context, Counters
    from alora_cpp.generation import GenerationStep
    from alora_cpp.intrinsic import Intrinsic
    from alora_cpp.labelled_data import DataError
    from alora_cpp.log import set_log_sink
    from alora_cpp.model import Model
    from alora_cpp.scoring import LabelScores
    from alora_cpp.verdict import Verdict
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "Adapter": "alora_cpp.adapter",
            "AsyncReply": "alora_cpp.chat.reply",
            "Branch": "alora_cpp.branch",
            "Chat": "alora_cpp.chat",
            "Context": "alora_cpp.context",
            "Counters": "alora_cpp.context",
            "DataError": "alora_cpp.labelled_data",
            "GenerationStep": "alora_cpp.generation",
            "GuardCheck": "alora_cpp.chat.guards",
            "Intrinsic": "alora_cpp.intrinsic",
            "LabelScores": "alora_cpp.scoring",
            "Model": "alora_cpp.model",
            "Reply": "alora_cpp.chat.reply",
            "Verdict": "alora_cpp.verdict",
            "set_log_sink": "alora_cpp.log",
        },
    )

__all__ = [
    "Adapter",
    "AdapterError",
    "AdapterMismatchError",
    "AdapterNotFoundError",
    "AloraError",
    "AnswerError",
    "ArgumentError",
    "AsyncReply",
    "BackendError",
    "Branch",
    "Cancelled",
    "Chat",
    "ClosedError",
    "Context",
    "ContextFullError",
    "ConversionError",
    "Counters",
    "DataError",
    "GenerationStep",
    "GuardCheck",
    "HubError",
    "Intrinsic",
    "InvocationNotFoundError",
    "LabelScores",
    "Model",
    "ModelLoadError",
    "PositionError",
    "Reply",
    "TokenError",
    "TrainingError",
    "Verdict",
    "WorkerCrashed",
    "set_log_sink",
]
