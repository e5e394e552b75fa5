"""Everything that goes wrong is one of these; each message says what was found, what was expected and what to do."""

from __future__ import annotations


class AloraError(Exception):
    """The base of all errors of this package."""


class ModelLoadError(AloraError):
    """A model file that cannot be loaded."""


class AdapterError(AloraError):
    """An adapter file that cannot be loaded, or used where it was asked to be."""


class AdapterMismatchError(AdapterError):
    """An adapter made for another base model."""


class InvocationNotFoundError(AdapterError):
    """The adapter's invocation tokens are not in the prompt."""


class AdapterNotFoundError(AdapterError):
    """No adapter of that name is known to the model."""


class AnswerError(AloraError):
    """An intrinsic's answer that cannot be read as its `io.yaml` says."""


class ContextFullError(AloraError):
    """No free KV cells, or no free branch."""


class PositionError(AloraError, IndexError):
    """A position that the branch does not have."""


class TokenError(AloraError, ValueError):
    """A token that the vocabulary does not have."""


class ArgumentError(AloraError, ValueError):
    """An option or argument outside what it may be."""


class ClosedError(AloraError):
    """A branch, context or model that was closed."""


class ConversionError(AloraError):
    """A folder that cannot be converted to GGUF."""


class TrainingError(AloraError):
    """A base or a setting that an adapter cannot be trained with, or a training that cannot go on."""


class HubError(AloraError):
    """Something that cannot be had from the Hugging Face hub."""


class Cancelled(AloraError):  # noqa: N818 - an outcome that was asked for, named like asyncio's
    """The work was cancelled, from another thread or by a callback."""


class BackendError(AloraError):
    """The compute backend failed."""


class WorkerCrashed(AloraError):  # noqa: N818 - what happened, as the process's own end, not a mistake of a call
    """The worker process of a model loaded with `isolation="process"` is gone; the next call starts another one."""
