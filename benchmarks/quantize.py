"""Quantizing with llama.cpp's own code, as `llama-cpp-python` brings it: the package `gguf` writes no K-quants."""

from __future__ import annotations

import ctypes
from pathlib import Path


def quantize_q4_k_m(source: Path, target: Path) -> Path:
    """The path of a copy of a model in Q4_K_M; written if it is not there.

    Args:
        source: The model; its numbers may be Q8_0 already.
        target: Where the copy is or will be.

    Raises:
        RuntimeError: llama.cpp could not do it, and why.
    """
    if target.exists():
        return target
    import llama_cpp

    said: list[bytes] = []
    listener = llama_cpp.llama_log_callback(lambda level, text, data: said.append(text))
    llama_cpp.llama_log_set(listener, ctypes.c_void_p())
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    options.allow_requantize = True
    unfinished = target.with_suffix(".part")
    failed = llama_cpp.llama_model_quantize(str(source).encode(), str(unfinished).encode(), ctypes.byref(options))
    llama_cpp.llama_log_set(llama_cpp.llama_log_callback(), ctypes.c_void_p())
    if failed:
        reason = b"".join(said[-4:]).decode(errors="replace").strip()
        raise RuntimeError(f"llama.cpp could not quantize {source}: {reason}")
    unfinished.rename(target)
    return target
