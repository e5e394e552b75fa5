"""Conversations: what was said, the trunk, checks, replies and their guards."""

from alora_cpp.chat.chat import Chat, OnFull

__all__ = ["Chat", "OnFull"]
