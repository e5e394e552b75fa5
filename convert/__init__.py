"""Converts adapters as PEFT saves them into the GGUF that llama.cpp and alora_cpp load, and back."""

from .adapter_gguf import OUTTYPES, convert_adapter
from .peft_writer import write_peft_folder
from .switch_apart import take_apart

__all__ = ["OUTTYPES", "convert_adapter", "take_apart", "write_peft_folder"]
