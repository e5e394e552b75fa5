"""A verdict in a word or two, coloured by what it means."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from alora_cpp import Verdict
from alora_desktop.theme import Tone

_YES = frozenset({"y", "yes", "true", "unsafe", "flagged"})

# What safety and hallucination say, where their answer is no and where it is yes.
_SAID = {"safety": ("Safe", "Unsafe"), "hallucination": ("Supported", "Not supported")}


@dataclass(frozen=True)
class Told:
    """What a chip shows.

    Attributes:
        text: A word or two.
        tone: What they mean.
        detail: The whole of it, in a sentence.
    """

    text: str
    tone: Tone
    detail: str


def told(name: str, verdict: Verdict) -> Told:
    """A verdict as a chip shows it.

    Args:
        name: What was asked: safety, hallucination or certainty.
        verdict: What was answered.
    """
    cost = f"{verdict.tokens_reused} tokens reused, {verdict.timings.total * 1000:.0f} ms"
    if name == "certainty" and verdict.value is not None:
        sure = Tone.GOOD if verdict.value >= 0.7 else Tone.NEUTRAL if verdict.value >= 0.4 else Tone.WARNING
        text = f"Certainty {verdict.value:.0%}"
        return Told(text, sure, f"The reply is right with a probability of {verdict.value:.0%} ({cost}).")
    if name in _SAID and verdict.label is not None:
        is_yes = verdict.label.casefold() in _YES
        text = _SAID[name][is_yes]
        share = "" if verdict.probability is None else f" {verdict.probability:.0%}"
        return Told(text + share, Tone.BAD if is_yes else Tone.GOOD, f"{name}: {verdict.label}{share} ({cost}).")
    shown = verdict.text if len(verdict.text) <= 24 else f"{verdict.text[:23]}…"
    return Told(f"{name} {shown}", Tone.NEUTRAL, f"{name}: {verdict.text} ({cost}).")


class Chip(QLabel):
    """A small rounded label."""

    def __init__(self, shown: Told, parent: QWidget | None = None) -> None:
        super().__init__(shown.text, parent)
        self.setObjectName("chip")
        self.setProperty("tone", shown.tone.value)
        self.setToolTip(shown.detail)
        self.setAccessibleName(shown.text)
        self.setAccessibleDescription(shown.detail)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
