"""A conversation to tokens, by the model's chat template."""

from alora_cpp.chat_template.template import ChatTemplate

__all__ = ["ChatTemplate"]
