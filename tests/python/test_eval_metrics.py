"""Figures and their intervals, by hand-made cases; tests/oracle compares them with scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from alora_cpp.evaluation import metrics
from alora_cpp.evaluation.intervals import Figure, bootstrapped, rate


def ones(n: int) -> npt.NDArray[np.float64]:
    return np.ones((1, n))


class TestRate:
    @pytest.mark.parametrize(
        # By Wilson's formula with z = 1.959964, worked out on paper.
        ("hits", "n", "low", "high"),
        [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (5, 10, 0.23659, 0.76341), (25, 1000, 0.01699, 0.03665)],
    )
    def test_wilson(self, hits: int, n: int, low: float, high: float) -> None:
        figure = rate(hits, n)
        assert figure.value == hits / n
        assert (figure.low, figure.high) == pytest.approx((low, high), abs=1e-5)


class TestBootstrap:
    def test_a_mean_has_the_interval_of_its_standard_error(self) -> None:
        amounts = np.random.default_rng(7).normal(3.0, 2.0, 400)
        figure = bootstrapped(lambda weights: metrics.mean(amounts, weights), 400)
        assert figure is not None
        half = 1.96 * amounts.std() / 20
        assert figure.value == pytest.approx(amounts.mean())
        assert (figure.low, figure.high) == pytest.approx((figure.value - half, figure.value + half), abs=0.1 * half)

    def test_it_is_the_same_again_and_with_another_seed_another(self) -> None:
        amounts = np.arange(50.0)
        one, again, other = (
            bootstrapped(lambda weights: metrics.mean(amounts, weights), 50, seed=seed) for seed in (0, 0, 1)
        )
        assert one == again != other

    def test_each_resample_has_as_many_examples(self) -> None:
        figure = bootstrapped(lambda weights: weights.sum(axis=-1), 30)
        assert figure == Figure(30.0, 30.0, 30.0)

    def test_many_examples_are_resampled_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        amounts = np.arange(40.0)
        whole = bootstrapped(lambda weights: metrics.mean(amounts, weights), 40)
        monkeypatch.setattr("alora_cpp.evaluation.intervals._CELLS", 40 * 7)
        assert bootstrapped(lambda weights: metrics.mean(amounts, weights), 40) == whole

    def test_a_figure_that_there_is_not(self) -> None:
        scores, positive = np.array([0.1, 0.9]), np.array([True, True])
        assert bootstrapped(lambda weights: metrics.auroc(scores, positive, weights), 2) is None


class TestConfusion:
    expected, said = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])

    def test_counts_expected_by_said(self) -> None:
        matrix = metrics.confusion(self.expected, self.said, 4, ones(6))[0]
        assert matrix.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]

    def test_precision_recall_and_f1(self) -> None:
        matrix = metrics.confusion(self.expected, self.said, 4, ones(6))[0]
        precision, recall, f1 = metrics.precision_recall_f1(matrix)
        assert precision[:2] == pytest.approx([2 / 4, 1 / 2])
        assert recall[:3] == pytest.approx([2 / 3, 1 / 2, 0])
        assert f1[:3] == pytest.approx([4 / 7, 1 / 2, 0])
        assert [math.isnan(share) for share in (precision[2], recall[3], f1[3])] == [True] * 3

    def test_macro_f1_is_of_the_labels_that_occur(self) -> None:
        figure = metrics.macro_f1(self.expected, self.said, 4, ones(6))
        assert figure == pytest.approx([(4 / 7 + 1 / 2 + 0) / 3])

    def test_weights_are_repetitions(self) -> None:
        weights = np.array([[2.0, 0, 1, 3, 0, 1]])
        repeated = np.repeat(np.arange(6), weights[0].astype(int))
        figure = metrics.macro_f1(self.expected, self.said, 4, weights)
        assert figure == pytest.approx(metrics.macro_f1(self.expected[repeated], self.said[repeated], 4, ones(7)))


class TestAuroc:
    def test_ties_count_half(self) -> None:
        # Pairs (positive, negative): 0.5 over 0.1, 0.5 with 0.5; 0.9 over both.
        scores, positive = np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, True, False, True])
        assert metrics.auroc(scores, positive, ones(4)) == pytest.approx([3.5 / 4])

    def test_perfect_reversed_and_constant(self) -> None:
        positive = np.array([False, False, True, True])
        for scores, figure in (([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([1, 1, 1, 1], 0.5)):
            assert metrics.auroc(np.array(scores, dtype=float), positive, ones(4)) == pytest.approx([figure])

    def test_weights_are_repetitions(self) -> None:
        random = np.random.default_rng(3)
        scores, positive = random.integers(0, 5, 30) / 5, random.random(30) < 0.4
        weights = random.integers(0, 4, (1, 30)).astype(float)
        repeated = np.repeat(np.arange(30), weights[0].astype(int))
        expected = metrics.auroc(scores[repeated], positive[repeated], ones(len(repeated)))
        assert metrics.auroc(scores, positive, weights) == pytest.approx(expected)

    def test_two_labels_have_one_figure(self) -> None:
        random = np.random.default_rng(4)
        yes = random.random(20)
        expected = random.integers(0, 2, 20)
        both = metrics.macro_auroc(np.stack([1 - yes, yes], axis=1), expected, ones(20))
        assert both == pytest.approx(metrics.auroc(yes, expected == 1, ones(20)))


class TestCalibration:
    def test_bins_by_hand(self) -> None:
        # Bin 9 holds 0.95 and 1.0 (one of two right), bin 2 holds 0.2 and 0.25 (none right).
        confidence, right = np.array([0.95, 1.0, 0.2, 0.25]), np.array([True, False, False, False])
        counts, confident, hits = (part[0] for part in metrics.reliability(confidence, right, ones(4)))
        assert counts.tolist() == [0, 0, 2, 0, 0, 0, 0, 0, 0, 2]
        assert confident[[2, 9]] == pytest.approx([0.45, 1.95])
        assert hits[[2, 9]] == pytest.approx([0.0, 1.0])
        error = metrics.calibration_error(confidence, right, ones(4))
        assert error == pytest.approx([(0.45 + 0.95) / 4])

    def test_what_is_exactly_as_sure_as_right_has_no_error(self) -> None:
        right = np.repeat([True, False], [3, 1])
        assert metrics.calibration_error(np.full(4, 0.75), right, ones(4)) == pytest.approx([0.0])

    def test_brier(self) -> None:
        two = metrics.brier(np.array([[0.3, 0.7], [1.0, 0.0]]), np.array([1, 1]))
        assert two == pytest.approx([0.09, 1.0])
        three = metrics.brier(np.array([[0.2, 0.3, 0.5]]), np.array([0]))
        assert three == pytest.approx([(0.64 + 0.09 + 0.25) / 2])


@pytest.mark.parametrize(
    ("probabilities", "median"),
    [([0.5, 0.5], 0), ([0.4, 0.6], 1), ([0.4, 0.05, 0.55], 2), ([0.4, 0.2, 0.4], 1), ([0, 0, 1], 2), ([1, 0, 0], 0)],
)
def test_median_label(probabilities: list[float], median: int) -> None:
    assert metrics.median_label(np.array([probabilities])).tolist() == [median]


@pytest.mark.parametrize(
    ("said", "expected", "f1"),
    [
        ("When did the mill open?", "when did THE mill open", 1.0),
        ("the the mill", "the mill", 0.8),
        ("a b", "c d", 0.0),
        ("?", "!", 1.0),
        ("", "a", 0.0),
        ("été über", "Été Über", 1.0),
    ],
)
def test_token_f1(said: str, expected: str, f1: float) -> None:
    assert metrics.token_f1(said, expected) == pytest.approx(f1)
