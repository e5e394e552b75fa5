"""The figures of `alora-cli eval` are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from alora_cpp.evaluation import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")
pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("n_labels", [2, 3, 10])
@pytest.mark.parametrize("seed", range(5))
class TestAgainstScikitLearn:
    @pytest.fixture
    def drawn(self, n_labels: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities with ties, expected labels, and weights as a resample has them."""
        random = np.random.default_rng([n_labels, seed])
        rough = random.integers(1, 6, (80, n_labels)).astype(float)
        probabilities = rough / rough.sum(axis=1, keepdims=True)
        return probabilities, random.integers(0, n_labels, 80), random.integers(0, 4, (1, 80)).astype(float)

    def test_confusion_and_f1(self, drawn: tuple[np.ndarray, ...], n_labels: int) -> None:
        probabilities, expected, weights = drawn
        said = probabilities.argmax(axis=1)
        labels = range(n_labels)
        options = {"sample_weight": weights[0]}
        matrix = metrics.confusion(expected, said, n_labels, weights)
        assert matrix[0] == pytest.approx(
            sklearn_metrics.confusion_matrix(expected, said, labels=list(labels), **options)
        )
        theirs = sklearn_metrics.precision_recall_fscore_support(
            expected, said, labels=list(labels), zero_division=np.nan, **options
        )
        for ours, figure in zip(metrics.precision_recall_f1(matrix), theirs[:3], strict=True):
            assert ours[0] == pytest.approx(figure, nan_ok=True)
        assert metrics.macro_f1(expected, said, n_labels, weights) == pytest.approx(
            [sklearn_metrics.f1_score(expected, said, average="macro", **options)]
        )

    def test_auroc(self, drawn: tuple[np.ndarray, ...], n_labels: int) -> None:
        probabilities, expected, weights = drawn
        for label in range(n_labels):
            theirs = sklearn_metrics.roc_auc_score(expected == label, probabilities[:, label], sample_weight=weights[0])
            ours = metrics.auroc(probabilities[:, label], expected == label, weights)
            assert ours == pytest.approx([theirs])
        scores = probabilities if n_labels > 2 else probabilities[:, 1]
        theirs = sklearn_metrics.roc_auc_score(expected, scores, multi_class="ovr", sample_weight=weights[0])
        assert metrics.macro_auroc(probabilities, expected, weights) == pytest.approx([theirs])

    def test_brier(self, drawn: tuple[np.ndarray, ...], n_labels: int) -> None:
        probabilities, expected, weights = drawn
        scores = probabilities if n_labels > 2 else probabilities[:, 1]
        theirs = sklearn_metrics.brier_score_loss(
            expected, scores, sample_weight=weights[0], labels=list(range(n_labels)), scale_by_half=True
        )
        assert metrics.mean(metrics.brier(probabilities, expected), weights) == pytest.approx([theirs])

    def test_reliability(self, drawn: tuple[np.ndarray, ...], n_labels: int) -> None:
        calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
        probabilities, expected, _ = drawn
        # Theirs takes the upper edge of a bin for its own, ours the lower one: no probability lies on an edge.
        confidence, right = probabilities[:, 0] * 0.998 + 0.0011, expected == 0
        counts, confident, hits = (part[0] for part in metrics.reliability(confidence, right, np.ones((1, 80))))
        filled = counts > 0
        share, mean = calibration_curve(right, confidence, n_bins=10)
        assert hits[filled] / counts[filled] == pytest.approx(share)
        assert confident[filled] / counts[filled] == pytest.approx(mean)
