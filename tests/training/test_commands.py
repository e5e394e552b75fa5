"""The record of the commands that made a folder."""

from __future__ import annotations

from pathlib import Path

from training.commands import COMMANDS, record


def test_commands_follow_one_another_until_all_is_made_afresh(tmp_path: Path) -> None:
    record(["--data", "/home/me/data", "--out", str(tmp_path), "--steps", "7"], tmp_path, afresh=True)
    record(["--stages", "intrinsics", "--out", str(tmp_path)], tmp_path, afresh=False)
    first, second = (tmp_path / COMMANDS).read_text().splitlines()
    assert first == "python -m training --data DATA --out OUT --steps 7"
    assert second == "python -m training --stages intrinsics --out OUT"
    record([], tmp_path, afresh=True)
    assert (tmp_path / COMMANDS).read_text() == "python -m training\n"
