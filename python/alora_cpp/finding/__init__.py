"""Finds the adapter that a name means for a model.

Looked at in this order, the first that fits is taken: adapters built into the model's own file, files beside the model
(`<stem>.<name>.gguf`, then `<stem>.intrinsics/`), what was pulled from the hub, what is bundled with the package. What
is found but does not fit is passed over, and its reason kept. Names are compared as `alora_cpp.io.canonical_name`
spells them; in one place, the exact spelling comes first.
"""

from alora_cpp.finding.place import Place
from alora_cpp.finding.search import Candidate, candidates, find, locate

__all__ = ["Candidate", "Place", "candidates", "find", "locate"]
