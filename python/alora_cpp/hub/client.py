"""What is used of the hub's client beyond its documented calls; all of it is the same from version 0.30 to 2.x."""

from __future__ import annotations

from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    WeakFileLock,
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

__all__ = ["WeakFileLock", "build_hf_headers", "get_session", "hf_raise_for_status", "http_get", "repo_folder_name"]
