"""Converts adapters as PEFT saves them into the GGUF that llama.cpp and alora_cpp load."""

from .adapter_gguf import OUTTYPES, convert_adapter

__all__ = ["OUTTYPES", "convert_adapter"]
