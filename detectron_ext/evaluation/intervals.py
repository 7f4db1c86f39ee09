"""Intervals and tests of a difference between two sets of scores, by Student's t distribution.

Each score is that of one training. Scores of the two sides that belong together (the same seed, the
same images to train on) are pairs; then the test is the paired t test. Scores that do not belong
together are compared by Welch's test, which needs no equal variances. Both assume that the scores,
or their differences, are normally distributed. With few runs this cannot be checked.

If several variants are compared with one baseline, one of them may look better by chance. Holm's
correction (Scandinavian Journal of Statistics 6, 1979) raises the p values so that the probability
of any wrong finding stays below the level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import numpy as np
from scipy import optimize, stats

LEVEL = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Difference:
    """A mean difference, candidate minus baseline.

    Attributes:
        method: "paired t" or "Welch".
        counts: number of scores of the baseline and of the candidate; equal if they are paired.
        mean: the difference of the means.
        error: standard error of the difference.
        freedom: degrees of freedom of its t distribution; 0 if the error is 0.
    """

    method: str
    counts: tuple[int, int]
    mean: float
    error: float
    freedom: float

    @property
    def interval(self) -> list[float]:
        """The limits of the 95 % interval."""
        reach = _quantile(LEVEL, self.freedom) * self.error if self.error else 0.0
        return [self.mean - reach, self.mean + reach]

    @property
    def p_value(self) -> float:
        """Probability of a difference as large as this, or larger, if there is none in truth."""
        if not self.error:
            return float(self.mean == 0)
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.freedom))

    def detectable(self, num_variants: int = 1) -> float:
        """Return the smallest true difference that a design like this finds with a power of 80 %.

        The standard error is taken as known. In truth it is estimated, and with few runs badly.

        Args:
            num_variants: number of variants that are compared. The difference has to be significant
                at the first and strictest step of Holm's correction, at the level 0.05 divided by
                this number.
        """
        if not self.error:
            return 0.0
        return self.error * _noncentrality(LEVEL / num_variants, self.freedom)


def paired_difference(
    baseline: Sequence[float], candidate: Sequence[float], overlap: float = 0.0
) -> Difference | None:
    """Return the mean of the pairs' differences; None for fewer than two pairs.

    Args:
        baseline: N scores.
        candidate: N scores; number k belongs to number k of the baseline.
        overlap: for cross-validation the number of test images divided by the number of training
            images. The folds share training images, so their scores are not independent. With this
            number the standard error covers that, by the correction of Nadeau and Bengio (Machine
            Learning 52, 2003). 0 takes the pairs as independent: it is the error over trainings on
            the same folds.
    """
    differences = np.asarray(candidate, np.float64) - np.asarray(baseline, np.float64)
    count = len(differences)
    if count < 2:
        return None
    deviation = _deviation(differences)
    error = deviation * math.sqrt(1 / count + overlap)
    mean = float(differences.mean())
    return Difference("paired t", (count, count), mean, error, count - 1 if error else 0)


def welch_difference(baseline: Sequence[float], candidate: Sequence[float]) -> Difference | None:
    """Return the difference of two means; None if a side has fewer than two scores.

    The degrees of freedom are those of Welch (Biometrika 34, 1947).

    Args:
        baseline: scores.
        candidate: scores; their number may be another.
    """
    sides = [np.asarray(side, np.float64) for side in (baseline, candidate)]
    if min(map(len, sides)) < 2:
        return None
    parts = [_deviation(side) ** 2 / len(side) for side in sides]
    error = math.sqrt(sum(parts))
    freedom = 0.0
    if error:
        shares = [part / sum(parts) for part in parts]
        freedom = 1 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, sides))
    mean = float(sides[1].mean() - sides[0].mean())
    return Difference("Welch", (len(sides[0]), len(sides[1])), mean, error, freedom)


def holm(p_values: Sequence[float], num_variants: int = 0) -> list[float]:
    """Return p values that Holm's step-down procedure corrected for several comparisons.

    Args:
        p_values: one for each comparison.
        num_variants: number of comparisons that were planned, if it is larger. Those that were not
            made count as not significant.
    """
    corrected = [0.0] * len(p_values)
    planned = max(num_variants, len(p_values))
    largest = 0.0
    for place, index in enumerate(np.argsort(p_values, kind="mergesort")):
        largest = max(largest, min(1.0, (planned - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def _deviation(values: np.ndarray) -> float:
    """Return the standard deviation; 0 if it is no more than the rounding of equal values."""
    deviation = float(values.std(ddof=1))
    return deviation if deviation > 1e-12 * max(1e-3, float(np.abs(values).max())) else 0.0


def _quantile(level: float, freedom: float) -> float:
    """Return the t value that is exceeded, to either side, with a probability of ``level``."""
    return float(stats.t.isf(level / 2, freedom))


def _noncentrality(level: float, freedom: float) -> float:
    """Return the true difference, in standard errors, that a two-sided t test finds with POWER."""
    critical = _quantile(level, freedom)
    # The power as a mean over 2000 estimates of the standard error. scipy's noncentral t
    # distribution is not a number for some large differences, which the search below tries.
    shares = (np.arange(2000) + 0.5) / 2000
    limits = critical * np.sqrt(stats.chi2.ppf(shares, freedom) / freedom)

    def lacking_power(difference: float) -> float:
        found = stats.norm.cdf(difference - limits) + stats.norm.cdf(-difference - limits)
        return float(found.mean()) - POWER

    return float(optimize.brentq(lacking_power, 0.0, 2 + 4 * critical))
