"""An evaluation as people read it."""

from __future__ import annotations

from alora_cpp.cli import terminal
from alora_cpp.evaluation import Evaluation, Figure
from alora_cpp.evaluation.figures import GroupFigures

# The names of figures, and whether they are shares.
_TITLES = {
    "error": ("error", True),
    "exact_match": ("exact match", True),
    "macro_f1": ("macro F1", False),
    "token_f1": ("token F1", False),
    "auroc": ("AUROC", False),
    "calibration_error": ("calibration error", False),
    "brier": ("Brier score", False),
    "label_distance": ("label distance", False),
    "value_distance": ("value distance", False),
    "reply_calibration_error": ("calibration error for replies", False),
    "reply_auroc": ("AUROC for replies", False),
    "reply_brier": ("Brier score for replies", False),
}
# What a table of groups has room for.
_OF_GROUPS = ("error", "exact_match", "macro_f1", "token_f1", "auroc", "label_distance", "reply_calibration_error")
_CONFUSION_UP_TO = 10


def summary(evaluation: Evaluation) -> str:
    """Tables of the figures of all examples, of each group, and of each label."""
    head = f"{evaluation.intrinsic}: {len(evaluation.judged)} examples"
    if evaluation.failed:
        head += f", {len(evaluation.failed)} of them without a verdict"
    overall = evaluation.overall
    parts = [terminal.paint(head, terminal.BOLD, terminal.CYAN)]
    if overall is not None:
        parts.append(_figures(overall))
        if evaluation.by_origin:
            parts.append(_groups({"all": overall, **evaluation.by_origin}))
        if overall.per_label:
            parts.append(_labels(evaluation, overall))
    return "\n\n".join(parts) + "\n"


def _figures(group: GroupFigures) -> str:
    rows = []
    for name, (title, is_share) in _TITLES.items():
        if (figure := group.figures.get(name)) is not None:
            rows.append([title, _value(figure, is_share), _interval(figure, is_share)])
    return terminal.table(["figure", "value", "95 % confidence"], rows)


def _groups(groups: dict[str, GroupFigures]) -> str:
    names = [name for name in _OF_GROUPS if any(name in group.figures for group in groups.values())]
    rows = []
    for origin, group in groups.items():
        cells = [terminal.printable(origin), str(group.n)]
        for name in names:
            figure, is_share = group.figures.get(name), _TITLES[name][1]
            if figure is None:
                cells.append("")
            else:
                cells.append(_value(figure, is_share) + (f" ({_interval(figure, is_share)})" if is_share else ""))
        rows.append(cells)
    return terminal.table(["origin", "n", *(_TITLES[name][0] for name in names)], rows)


def _labels(evaluation: Evaluation, overall: GroupFigures) -> str:
    labels = evaluation.scale.labels
    shows_confusion = len(labels) <= _CONFUSION_UP_TO
    said = [f"said {label}" for label in labels] if shows_confusion else []
    rows = []
    for label, counts in zip(labels, overall.confusion, strict=True):
        if label in overall.per_label:
            shares = overall.per_label[label].values()
            cells = ["" if share is None else f"{share:.3f}" for share in shares]
            rows.append([label, str(sum(counts)), *cells, *(map(str, counts) if shows_confusion else [])])
    return terminal.table(["label", "n", "precision", "recall", "F1", *said], rows)


def _value(figure: Figure, is_share: bool) -> str:
    return f"{100 * figure.value:.2f} %" if is_share else f"{figure.value:.3f}"


def _interval(figure: Figure, is_share: bool) -> str:
    return (
        f"{100 * figure.low:.2f} to {100 * figure.high:.2f}" if is_share else f"{figure.low:.3f} to {figure.high:.3f}"
    )
