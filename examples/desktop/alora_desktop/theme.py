"""Colours that follow the system's palette, light or dark, and the style sheet made of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from PySide6.QtGui import QColor, QPalette


class Tone(Enum):
    """What a chip says at a glance."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    NEUTRAL = "neutral"


@dataclass(frozen=True)
class Colours:
    """A background, and the text on it, as style sheets spell colours."""

    background: str
    text: str


_LIGHT = {
    Tone.GOOD: Colours("#e1f3e6", "#14562b"),
    Tone.WARNING: Colours("#fbecc9", "#6b4300"),
    Tone.BAD: Colours("#fbdfdd", "#8f1a17"),
}
_DARK = {
    Tone.GOOD: Colours("#183d27", "#a5e3ba"),
    Tone.WARNING: Colours("#43330e", "#f3d38a"),
    Tone.BAD: Colours("#512120", "#f8bab6"),
}


def is_dark(palette: QPalette) -> bool:
    """Whether a palette has light text on a dark ground."""
    return palette.color(QPalette.ColorRole.Window).lightness() < palette.color(QPalette.ColorRole.Text).lightness()


def tone_colours(tone: Tone, palette: QPalette) -> Colours:
    """The colours of a tone beside a palette."""
    if tone is Tone.NEUTRAL:
        return Colours(_mixed(palette, 0.08), _mixed(palette, 0.75))
    return (_DARK if is_dark(palette) else _LIGHT)[tone]


def style_sheet(palette: QPalette) -> str:
    """The window's style sheet for a palette."""
    chips = "".join(
        f'#chip[tone="{tone.value}"] {{ background: {colours.background}; color: {colours.text}; }}\n'
        for tone, colours in ((tone, tone_colours(tone, palette)) for tone in Tone)
    )
    warning = tone_colours(Tone.WARNING, palette)
    accent = palette.color(QPalette.ColorRole.Highlight).name()
    on_accent = palette.color(QPalette.ColorRole.HighlightedText).name()
    ground, line, quiet = _mixed(palette, 0.06), _mixed(palette, 0.18), _mixed(palette, 0.62)
    return f"""
        #chip {{ border-radius: 9px; padding: 2px 9px; font-size: 12px; }}
        {chips}
        #question {{ background: {ground}; border-radius: 14px; }}
        #quiet {{ color: {quiet}; }}
        #welcome {{ color: {quiet}; font-size: 15px; }}
        #name {{ font-weight: 600; }}
        #banner {{ background: {warning.background}; border-radius: 8px; }}
        #banner QLabel {{ color: {warning.text}; }}
        #banner QPushButton {{ color: {warning.text}; border: none; padding: 4px 8px; }}
        #banner QPushButton:focus {{ text-decoration: underline; }}
        #card {{ background: {_mixed(palette, 0.0, QPalette.ColorRole.Base)}; border: 1px solid {line};
                 border-radius: 14px; }}
        #card[dropping="true"] {{ border: 2px dashed {accent}; }}
        #composer {{ border: none; background: transparent; font-size: 14px; }}
        #document {{ border: 1px solid {line}; border-radius: 9px; padding: 3px 9px; background: {ground}; }}
        #document:focus {{ border-color: {accent}; }}
        #primary {{ background: {accent}; color: {on_accent}; border: 1px solid {accent}; border-radius: 9px;
                    padding: 6px 16px; }}
        #primary:focus {{ border-color: {palette.color(QPalette.ColorRole.Text).name()}; }}
        #primary:disabled {{ background: {line}; color: {quiet}; border-color: {line}; }}
        #plain {{ border: 1px solid {line}; border-radius: 9px; padding: 6px 12px; background: transparent; }}
        #plain:hover {{ background: {ground}; }}
        #plain:disabled {{ color: {quiet}; }}
        #plain:focus {{ border-color: {accent}; }}
    """


def _mixed(palette: QPalette, share: float, role: QPalette.ColorRole = QPalette.ColorRole.Window) -> str:
    """A ground with a share of the text's colour in it."""
    ground, text = palette.color(role), palette.color(QPalette.ColorRole.Text)
    pairs = ((ground.red(), text.red()), (ground.green(), text.green()), (ground.blue(), text.blue()))
    return QColor(*(round(one * (1 - share) + other * share) for one, other in pairs)).name()
