"""`io.yaml`: how an intrinsic's author says to ask it and to read its answer."""

from alora_cpp.io.answer import likelihood_literals, process_answer
from alora_cpp.io.config import IoConfig, parse_io_yaml
from alora_cpp.io.json_text import Literal, Scalar
from alora_cpp.io.likelihood import AnswerToken, approximate_likelihood, expected_value
from alora_cpp.io.names import canonical_name
from alora_cpp.io.parameters import Parameters
from alora_cpp.io.request import Request, rewrite_request
from alora_cpp.io.sentences import sentence_spans, split_sentences

__all__ = [
    "AnswerToken",
    "IoConfig",
    "Literal",
    "Parameters",
    "Request",
    "Scalar",
    "approximate_likelihood",
    "canonical_name",
    "expected_value",
    "likelihood_literals",
    "parse_io_yaml",
    "process_answer",
    "rewrite_request",
    "sentence_spans",
    "split_sentences",
]
