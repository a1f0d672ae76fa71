"""Finds where a rising curve crosses a level from few noisy evaluations: ask for a place, tell the value, ask again.

The curve is taken to be logistic, from 0 to a top of at most 1, and to cross the level at rho: of a metric that starts
well above 0, as recognition at the bag level does, rho comes out too low. Errors count squared
where they are small, and no more than _OUTLIER^2 where they are not (as in Geman & McClure, 1985), so that a run that
lies against all others weighs little. rho is known when the interval of all rho that fit about as well as the best one
is narrow. No step of this runs anything: a `Search` is a function of what it was told.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

_NUM_RHO = 321
_NUM_WIDTHS = 12
_NUM_TOPS = 4
_NOISE = 0.05  # standard deviation that a value is taken to have at least
_OUTLIER = 0.2  # an error of this size or more tells of a failed run, not of the curve
_QUANTILE = 3.84  # 95% of a chi-squared distribution of one degree of freedom
_MOST_OUTLIERS = 0.25  # share of the values; with more of them nothing is known
_NEAR = 3  # steps within which two values on either side of the crossing confirm it


class Outcome(StrEnum):
    """How a search ended, or that it has not."""

    OPEN = "open"
    CROSSING = "crossing"
    BELOW = "below"  # the level is not reached at the ends; what lies between them nobody has seen
    ABOVE = "above"  # the level is exceeded from the lowest place on
    FALLING = "falling"  # above at the lowest place, below at the highest
    BUDGET = "budget"  # not known well enough, and no evaluations or places are left


@dataclass(frozen=True)
class Range:
    """Where to look and how closely: places are `low`, `low + step` and so on to `high`; rho is to be known to
    +- `step` from at most `max_points` evaluations."""

    low: float
    high: float
    step: float
    level: float
    max_points: int

    @cached_property
    def places(self) -> list[float]:
        """All places a search may ask for: the grid that it saves."""
        number = math.floor((self.high - self.low) / self.step + 1e-6)
        return [round(self.low + i * self.step, 6) for i in range(number + 1)]

    @cached_property
    def rho(self) -> Float64[np.ndarray, "r"]:
        """Candidates for the crossing."""
        return np.linspace(self.low, self.high, _NUM_RHO)

    @cached_property
    def width(self) -> Float64[np.ndarray, "w"]:
        """Candidates for the logistic's width."""
        return np.geomspace(self.step / 8, (self.high - self.low) / 2, _NUM_WIDTHS)

    @cached_property
    def top(self) -> Float64[np.ndarray, "t"]:
        """Candidates for what the curve rises to."""
        return np.linspace(0.7 * self.level + 0.3, 1.0, _NUM_TOPS)

    def errors(self, place: float, value: float) -> Float64[np.ndarray, "r w t"]:
        """Error of every curve, `rho` x `width` x `top`, at a place, between 0 and 1: 1 is an outlier."""
        slope = (place - self.rho[:, None, None]) / self.width[:, None] + np.log(self.level / (self.top - self.level))
        distance = self.top * 0.5 * (1 + np.tanh(slope / 2)) - min(max(value, 0.0), 1.0)
        return distance**2 / (distance**2 + _OUTLIER**2)


@dataclass(frozen=True)
class Fit:
    """The crossing, and the interval in which it lies: all rho whose fit is not worse by chance alone; and the share of
    values that the best curve does not explain."""

    rho: float
    low: float
    high: float
    outliers: float

    @property
    def is_known(self) -> bool:
        """Whether the values agree on a curve at all."""
        return self.outliers <= _MOST_OUTLIERS

    @property
    def half_width(self) -> float:
        """Half the interval."""
        return (self.high - self.low) / 2


def fit(points: Mapping[float, float], within: Range) -> Fit:
    """The best logistic curve through `place -> value`, values clipped to [0, 1]; needs one point.

    The variance of a value is that of the errors, but at least _NOISE^2.
    """
    return _fit([within.errors(place, value) for place, value in points.items()], within)


def _fit(each: list[Float64[np.ndarray, "r w t"]], within: Range) -> Fit:
    total = np.sum(each, axis=0)
    at = np.unravel_index(total.argmin(), total.shape)
    errors = total.min(axis=(1, 2))
    variance = max(errors.min() / max(len(each) - 3, 1), (_NOISE / _OUTLIER) ** 2)
    best = within.rho[errors <= errors.min() + 1e-3 * variance]
    good = within.rho[errors <= errors.min() + _QUANTILE * variance]
    outliers = np.mean([error[at] > 0.5 for error in each])
    return Fit(float(best.mean()), float(good.min()), float(good.max()), float(outliers))


@dataclass
class Search:
    """A search for the crossing on one curve. `points` holds what it was told, also of places it never asked for; what
    it starts with does not count as its evaluations. Places outside the range play no part, for rho is sought inside.
    """

    within: Range
    points: dict[float, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = self.within.low - 1e-9, self.within.high + 1e-9
        self.points = {place: value for place, value in self.points.items() if low <= place <= high}
        self._most = len(self.points) + self.within.max_points
        self._errors = {place: self.within.errors(place, value) for place, value in self.points.items()}

    def tell(self, place: float, value: float) -> None:
        """Adds a value of the curve."""
        self.points[place] = value
        self._errors[place] = self.within.errors(place, value)

    def fit(self) -> Fit:
        """The crossing as far as it is known; needs one point."""
        return _fit(list(self._errors.values()), self.within)

    def next(self) -> tuple[Outcome, float | None]:
        """OPEN and the place to evaluate next, or how the search has ended and None.

        First a pair of places between which the curve rises through the level; an end on the wrong side is confirmed
        by its neighbour. Then the place nearest to the crossing that is free: bisection, as long as values are clear,
        and a closer look where they are not. At last two values near the crossing on either side have to be there, for
        one that lies against all others may have led the bisection astray. Where values scatter so much that all places
        about the crossing are used up before it is known, it ends: places further away would not tell more.
        """
        if not self.rises():
            outcome, sought = self._ends()
            missing = [place for place in sought if place not in self.points]
            return self._within_budget(missing[0]) if missing else (outcome, None)
        found = self.fit()
        free = [place for place in self.within.places if place not in self.points]
        if found.is_known and found.half_width <= self.within.step + 1e-9:
            sides = [side for side in (-1, 1) if self._near(found.rho, side) < 2]
            free = [place for place in free if (place - found.rho) * sides[0] > 0] if sides else []
            if not free:
                return Outcome.CROSSING, None
        if found.is_known:
            free = [place for place in free if abs(place - found.rho) <= found.half_width + self._reach]
        return self._within_budget(min(free, key=lambda place: abs(place - found.rho), default=None))

    def rises(self) -> bool:
        """Whether a value below the level stands before one above it."""
        below = [place for place, value in self.points.items() if value < self.within.level]
        above = [place for place, value in self.points.items() if value >= self.within.level]
        return bool(below and above) and min(below) < max(above)

    def crossings(self) -> int:
        """How often the values go through the level, from place to place."""
        below = [value < self.within.level for _, value in sorted(self.points.items())]
        return sum(a != b for a, b in pairwise(below))

    def _ends(self) -> tuple[Outcome, list[float]]:
        """What is the case if nothing rises even at these places, which are to be told then."""
        places, below = self.within.places, [value < self.within.level for value in self.points.values()]
        if below and all(below):
            return Outcome.BELOW, [places[0], *places[:-3:-1]]
        return (Outcome.FALLING, [places[0], places[-1]]) if any(below) else (Outcome.ABOVE, [*places[:2], places[-1]])

    def _near(self, rho: float, side: int) -> int:
        """How many values are known near the crossing on one side."""
        return sum(0 <= (place - rho) * side <= self._reach for place in self.points)

    @property
    def _reach(self) -> float:
        """What is near, and a little for rounding."""
        return (_NEAR + 1e-6) * self.within.step

    def _within_budget(self, place: float | None) -> tuple[Outcome, float | None]:
        if place is None or len(self.points) >= self._most:
            return Outcome.BUDGET, None
        return Outcome.OPEN, place
