"""Lays a patched copy of llama.cpp into the build folder.

Run by CMake at configure time. The source is the pinned `llama-cpp-python` source distribution, fetched with pip by
name and checked by its hash, or a folder named by ALORA_LLAMA_CPP_DIR, which is copied and never changed. The hook
patch always goes onto fresh files, so running this twice is safe; a stamp makes the second run do nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import patch_ng

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
HOOKS = HERE / "hooks.patch"

# What libllama needs, and upstream's converter, which the tests use as an oracle.
WANTED = (
    "cmake",
    "ggml",
    "include",
    "src",
    "conversion",
    "gguf-py",
    "convert_lora_to_gguf.py",
    "convert_hf_to_gguf.py",
    "LICENSE",
)


def fingerprint(source: str) -> str:
    """What the prepared folder was made from; any change makes it anew."""
    digest = hashlib.sha256(source.encode())
    for file in (Path(__file__), REQUIREMENTS, HOOKS):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def download(into: Path) -> Path:
    """Fetches the pinned source distribution; pip checks the hash."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    subprocess.run([*command, "--requirement", str(REQUIREMENTS), "--dest", str(into)], check=True)
    return next(into.glob("llama_cpp_python-*.tar.gz"))


def extract(archive: Path, destination: Path) -> None:
    """Unpacks the wanted part of vendor/llama.cpp, keeping the archive's file times so that rebuilds stay small."""
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts[1:]
            if parts[:2] != ("vendor", "llama.cpp") or len(parts) < 3 or parts[2] not in WANTED:
                continue
            if ".." in parts or not (member.isfile() or member.isdir()):
                continue
            member.name = str(Path(*parts[2:]))
            tar.extract(member, destination)


def copy(folder: Path, destination: Path) -> None:
    """Copies the wanted part of a llama.cpp checkout."""
    for name in WANTED:
        source = folder / name
        if source.is_dir():
            shutil.copytree(source, destination / name)
        elif source.exists():
            shutil.copy2(source, destination / name)
        elif name in ("ggml", "include", "src", "cmake"):
            sys.exit(f"ALORA_LLAMA_CPP_DIR={folder} has no {name}: it must name a llama.cpp source folder")


def prepare(destination: Path, folder: str) -> None:
    """Makes `destination` the patched source, unless it is that already."""
    stamp = destination / ".alora-stamp"
    wanted = fingerprint(folder)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir(parents=True)
    if folder:
        copy(Path(folder), destination)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            extract(download(Path(scratch)), destination)
    patch = patch_ng.fromfile(str(HOOKS))
    if not patch or not patch.apply(strip=1, root=str(destination)):
        sys.exit(f"{HOOKS} does not apply to {folder or REQUIREMENTS}: see README.md there, 'How to bump'")
    stamp.write_text(wanted)


def main() -> None:
    """Entry point for CMake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("destination", type=Path)
    prepare(parser.parse_args().destination.resolve(), os.environ.get("ALORA_LLAMA_CPP_DIR", ""))


if __name__ == "__main__":
    main()
