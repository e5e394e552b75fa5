"""Models and adapters from the Hugging Face hub, in its own cache, with its own client and environment variables."""

from alora_cpp.hub.adapters import DownloadedAdapter, download_adapter
from alora_cpp.hub.cache_folder import cache_folder
from alora_cpp.hub.models import download_model
from alora_cpp.hub.pulled import Pulled, pulled, remember
from alora_cpp.hub.reference import is_reference

__all__ = [
    "DownloadedAdapter",
    "Pulled",
    "cache_folder",
    "download_adapter",
    "download_model",
    "is_reference",
    "pulled",
    "remember",
]
