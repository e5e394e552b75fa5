"""What an answer may be: JSON schemas and closed sets, as lists of texts or as masks of tokens."""

from alora_cpp.constraint.choice_constraint import ChoiceConstraint
from alora_cpp.constraint.schema_constraint import Matcher, SchemaConstraint
from alora_cpp.constraint.schema_texts import ClosedText, closed_texts

__all__ = ["ChoiceConstraint", "ClosedText", "Matcher", "SchemaConstraint", "closed_texts"]
