"""How good intrinsics are: asked about labelled conversations, and their answers turned into figures."""

from alora_cpp.evaluation.asking import Judged, ask
from alora_cpp.evaluation.evaluation import Evaluation, evaluate
from alora_cpp.evaluation.intervals import Figure

__all__ = ["Evaluation", "Figure", "Judged", "ask", "evaluate"]
