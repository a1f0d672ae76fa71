"""The search for the coverage at which binding begins: on simulated curves, on a stored grid, and as a command."""

import json
from pathlib import Path

import numpy as np
import pytest

from dualenc import config as configuration
from dualenc.data.open import symbolic_sampler
from dualenc.errors import InputError
from dualenc.files import write_json
from dualenc.sweep import look, make_plan, read_sweep
from dualenc.sweep.__main__ import main
from dualenc.sweep.plan import plan_points
from dualenc.sweep.results import interval
from dualenc.sweep.search import Outcome, Range, Search, fit
from dualenc.sweep.threshold import Threshold, results, write_threshold

ROOT = Path(__file__).resolve().parents[2]
STORED = ("stored_grid.csv", "measured_grid.csv")
"""coverage, seed, binding gain on held-out objects: one line for each run of a grid."""
RANGE = Range(low=0.1, high=0.9, step=0.025, level=0.5, max_points=16)
BASE = f"base: {ROOT}/configs/symbolic.yaml\n"


def search(curve, within: Range = RANGE) -> Search:
    """A search that has come to its end on a curve, place -> value."""
    found = Search(within)
    while (place := found.next()[1]) is not None:
        assert place not in found.points
        found.tell(place, curve(place))
    return found


def logistic(rho: float, width: float, top: float = 1.0):
    return lambda place: top / (1 + np.exp(-(place - rho) / width))


def test_places_are_the_grid_that_is_saved() -> None:
    assert len(RANGE.places) == 33
    assert RANGE.places[:2] == [0.1, 0.125]
    assert RANGE.places[-1] == 0.9


@pytest.mark.parametrize("width", [0.002, 0.02, 0.06])
@pytest.mark.parametrize("rho", [0.12, 0.213, 0.5, 0.777, 0.88])
def test_a_clear_crossing_is_found(rho: float, width: float) -> None:
    found = search(logistic(rho, width))
    assert found.next()[0] is Outcome.CROSSING
    assert found.fit().rho == pytest.approx(rho, abs=0.025)
    assert len(found.points) <= 9


@pytest.mark.parametrize("outlier", [False, True])
def test_half_a_grid_gives_its_answer_in_spite_of_noise_and_a_point_against_all_others(outlier: bool) -> None:
    """30 groups of 3 seeds, each curve with noise of its own of up to 0.1, and in the second case with one run that
    contradicts its neighbours: each crossing is that of the whole grid to within a step, from at most half of its runs
    (less than a third on average)."""
    rng = np.random.default_rng(0)
    errors, numbers = [], []
    for _ in range(30):
        rho, width, top = rng.uniform(0.2, 0.8), rng.uniform(0.005, 0.06), rng.uniform(0.85, 1)
        found, grids = [], []
        for _ in range(3):
            curve = logistic(rho + rng.normal(0, 0.03), width, top)
            noise = rng.uniform(0, 0.1)
            values = {place: curve(place) + noise * rng.normal() for place in RANGE.places}
            if outlier:
                place = rng.choice(RANGE.places)
                values[place] = -0.5 if values[place] >= 0.5 else 1.0
            found.append(search(values.__getitem__))
            grids.append(fit(values, RANGE).rho)
        errors += [one.fit().rho - grid for one, grid in zip(found, grids)]
        numbers += [len(one.points) for one in found]
    assert max(numbers) <= len(RANGE.places) // 2
    assert np.mean(numbers) < 10
    assert np.max(np.abs(errors)) <= RANGE.step


def test_a_failed_run_in_the_middle_does_not_lead_the_bisection_astray() -> None:
    curve = logistic(0.3, 0.01)
    found = search(lambda place: -1.0 if place == 0.5 else curve(place))
    assert 0.5 in found.points
    assert found.next()[0] is Outcome.CROSSING
    assert found.fit().rho == pytest.approx(0.3, abs=0.025)


@pytest.mark.parametrize(
    ("curve", "outcome", "num_points"),
    [
        (lambda place: -0.3, Outcome.BELOW, 3),
        (lambda place: 0.8, Outcome.ABOVE, 3),
        (lambda place: 1 - place, Outcome.FALLING, 3),
    ],
)
def test_a_curve_without_a_crossing_ends_soon_and_says_so(curve, outcome: Outcome, num_points: int) -> None:
    found = search(curve)
    assert found.next() == (outcome, None)
    assert len(found.points) <= num_points


def test_places_far_from_the_crossing_are_not_asked_for_where_it_stays_unclear() -> None:
    """Measured: binding gain on symbolic scenes, seed 1 of configs/sweeps/transition-symbolic.yaml."""
    gains = {0.2: -0.887, 0.35: -0.775, 0.5: -0.497, 0.65: 0.073, 0.675: 0.079, 0.7: -0.051, 0.725: 0.072, 0.75: 0.272}
    gains |= {0.775: -0.04, 0.8: 0.506, 0.825: 0.512, 0.85: 0.441, 0.875: 0.514, 0.9: 0.806}
    search = Search(RANGE, gains)
    assert search.fit().half_width > 2 * RANGE.step
    assert search.next() == (Outcome.BUDGET, None)
    del search.points[0.825], search._errors[0.825]
    assert search.next() == (Outcome.OPEN, 0.825)


def test_an_unclear_curve_ends_with_its_budget() -> None:
    found = search(lambda place: float(round(place / RANGE.step) % 2))
    assert found.next() == (Outcome.BUDGET, None)
    assert len(found.points) == RANGE.max_points
    assert not found.fit().is_known


def test_a_failed_run_at_an_end_is_not_taken_for_the_absence_of_a_crossing() -> None:
    curve = logistic(0.6, 0.02)
    for place in (0.1, 0.9):
        found = search(lambda x, place=place: 1 - curve(x) if x == place else curve(x))
        assert found.next()[0] is Outcome.CROSSING
        assert found.fit().rho == pytest.approx(0.6, abs=0.025)


def test_what_is_known_already_is_not_asked_for_and_costs_nothing() -> None:
    curve = logistic(0.43, 0.01)
    known = {place: curve(place) for place in (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)}
    found = Search(RANGE, dict(known))
    asked = []
    while (place := found.next()[1]) is not None:
        asked.append(place)
        found.tell(place, curve(place))
    assert len(asked) <= 4
    assert all(0.35 < place < 0.5 for place in asked)
    assert found.fit().rho == pytest.approx(0.43, abs=0.025)


@pytest.mark.parametrize(("places", "outcome"), [((0.1, 0.5, 0.7), Outcome.ABOVE), ((0.95, 0.4, 0.6), Outcome.BELOW)])
def test_what_lies_outside_the_range_makes_no_crossing_at_its_end(places, outcome: Outcome) -> None:
    within = Range(0.3, 0.9, 0.025, 0.5, max_points=12)
    curve = logistic(0.2 if outcome is Outcome.ABOVE else 0.93, 0.005)
    found = Search(within, {place: curve(place) for place in places})
    while (place := found.next()[1]) is not None:
        found.tell(place, curve(place))
    assert found.next()[0] is outcome
    assert found.crossings() == 0


def test_crossings_are_counted() -> None:
    values = {0.1: 0.0, 0.4: 0.8, 0.5: 0.7, 0.6: 0.2, 0.9: 1.0}
    assert Search(RANGE, values).crossings() == 3


@pytest.mark.parametrize("number", [2, 3, 5, 12])
def test_the_interval_holds_the_mean_in_95_of_100_cases(number: int) -> None:
    rng = np.random.default_rng(0)
    bounds = [interval(rng.normal(0.5, 0.1, number).tolist()) or (0, 0) for _ in range(600)]
    assert 0.9 <= np.mean([low <= 0.5 <= high for low, high in bounds]) <= 0.98


def test_equal_values_are_known_no_better_than_each_of_them() -> None:
    assert interval([0.5]) is None
    assert interval([0.5, 0.5]) == (0.5, 0.5)
    low, high = interval([0.5, 0.5, 0.5], [0.01] * 3) or (0, 0)
    assert 0.01 < high - 0.5 < 0.05
    assert 0.01 < 0.5 - low < 0.05


# --- over a sweep ----------------------------------------------------------------------------------------


@pytest.fixture
def plan_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def plan(text: str):
        (tmp_path / "s.yaml").write_text(BASE + text)
        return make_plan(read_sweep(Path("s.yaml")))

    return plan


def finished(run, gain: float) -> None:
    run.folder.path.mkdir(parents=True, exist_ok=True)
    write_json(run.folder.summary, {"metrics": {"ood/binding_gain": gain}})


def searched(plan, gain) -> tuple[dict, int]:
    """What the search over a sweep finds, point -> gain, and how many runs it takes."""
    threshold = Threshold(plan)
    queue, ran = threshold.begin(), 0
    while queue:
        run = queue.pop()
        assert look(plan, run).state == "waiting"
        finished(run, gain(run.point))
        ran += 1
        if further := threshold.told(look(plan, run), ran=True):
            queue.append(further)
    return results(threshold), ran


SWEEP = """
zip: {run.seed: [0, 1], data.seed: [0, 1]}
grid: {optim.lr: [1.0e-3, 2.0e-3], data.coverage: [0.2, 0.8]}
threshold: {low: 0.2, high: 0.8, step: 0.05}
"""


def gain(point: dict) -> float:
    """Crosses at 0.4 or, for the other seed, 0.5; not at all at the higher learning rate."""
    if point["optim.lr"] > 1.5e-3:
        return -1.0
    return float(logistic(0.4 + 0.1 * point["run.seed"], 0.01)(point["data.coverage"]))


def test_every_group_and_seed_is_searched_and_reported(plan_of) -> None:
    plan = plan_of(SWEEP)
    for run in plan.runs[:4]:  # of the first seed
        finished(run, gain(run.point))
    found, ran = searched(plan, gain)
    crossing, flat = found["groups"]
    assert crossing["values"] == {"optim.lr": 1e-3}
    assert [curve["outcome"] for curve in crossing["curves"]] == ["crossing", "crossing"]
    assert [curve["rho"] for curve in crossing["curves"]] == pytest.approx([0.4, 0.5], abs=0.05)
    assert crossing["rho"] == pytest.approx(0.45, abs=0.05)
    low, high = crossing["interval"]  # of two seeds, whose mean could lie nearly anywhere
    assert 0.2 <= low < 0.4
    assert 0.5 < high <= 0.8
    assert [curve["outcome"] for curve in flat["curves"]] == ["below", "below"]
    assert flat["rho"] is None
    assert ran == sum(curve["num_new"] for group in (crossing, flat) for curve in group["curves"])
    assert crossing["num_runs"] <= crossing["num_grid_runs"]


def test_an_interrupted_search_says_what_it_knows_and_that_it_goes_on(plan_of) -> None:
    plan = plan_of("grid: {data.coverage: [0.2, 0.8]}\nthreshold: {low: 0.2, high: 0.8, step: 0.05}")
    threshold = Threshold(plan)
    [run] = threshold.begin()
    for _ in range(4):
        finished(run, float(logistic(0.5, 0.01)(run.point["data.coverage"])))
        run = threshold.told(look(plan, run), ran=True)
    assert threshold.told(look(plan, run), ran=True) is None  # it waits: nothing has come of it
    printed = write_threshold(threshold)
    assert "was interrupted; the same command goes on" in printed
    assert "failed" not in printed
    [curve] = results(threshold)["groups"][0]["curves"]
    assert (curve["outcome"], curve["error"]) == ("open", None)
    assert curve["rho"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", STORED)
def test_half_of_a_stored_grid_gives_its_answer(plan_of, name: str) -> None:
    """A grid may hold fewer coverages than places: between them lie straight lines."""
    stored = Path(__file__).with_name(name)
    coverage, seed, gains = np.loadtxt(stored, delimiter=",", comments=("#", "coverage"), unpack=True)
    curves = {int(s): (coverage[seed == s], gains[seed == s]) for s in np.unique(seed)}
    plan = plan_of(
        f"zip: {{run.seed: {list(curves)}, data.seed: {list(curves)}}}\ngrid: {{data.coverage: [0.1, 0.9]}}\n"
        f"threshold: {{low: {coverage.min()}, high: {coverage.max()}}}"
    )
    found, ran = searched(plan, lambda p: float(np.interp(p["data.coverage"], *curves[p["run.seed"]])))
    (group,) = found["groups"]
    within = Range(coverage.min(), coverage.max(), step=found["step"], level=found["level"], max_points=0)
    grid = {s: {place: float(np.interp(place, *curve)) for place in within.places} for s, curve in curves.items()}
    crossings = {s: fit(points, within).rho for s, points in grid.items()}
    for curve in group["curves"]:
        assert curve["rho"] == pytest.approx(crossings[curve["seed"]["run.seed"]], abs=0.025)
    assert group["rho"] == pytest.approx(np.mean(list(crossings.values())), abs=0.025)
    assert group["num_runs"] == ran <= group["num_grid_runs"] / 2
    assert group["num_grid_runs"] == sum(map(len, grid.values()))


def test_the_command_trains_nothing_where_all_is_known(plan_of, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(SWEEP)
    places = [round(0.2 + 0.05 * number, 6) for number in range(13)]
    every = [{**run.point, "data.coverage": place} for run in plan.runs for place in places]
    for run in plan_points(plan.sweep, every, plan.folder.parent):
        finished(run, gain(run.point))
    assert main(["threshold", "s.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "optim.lr=0.001: rho* = 0.4" in printed
    assert "optim.lr=0.002: no rho*, known for 0 of 2 seeds" in printed
    stored = json.loads((plan.folder / "threshold.json").read_text())
    assert all(curve["num_new"] == 0 for group in stored["groups"] for curve in group["curves"])


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("", "threshold: s.yaml has no such block"),
        ("threshold: {lo: 0.1}", "threshold.lo: unknown key; did you mean threshold.low"),
        ("threshold: {level: 1.0}", "threshold.level: 1.0 is out of range"),
        ("threshold: {metric: ood/nothing}", "threshold.metric: 'ood/nothing' is unknown"),
        ("threshold: {key: data.coverag}", "threshold.key: 'data.coverag' is no key"),
        ("threshold: {low: 0.8, high: 0.85}", "threshold.high: fewer than 12 steps"),
        ("threshold: {low: 0.2, high: 0.8, step: 0.06}", "threshold.high: fewer than 12 steps"),
    ],
)
def test_a_wrong_block_is_refused_in_one_line(plan_of, block: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Threshold(plan_of(f"grid: {{run.seed: [0, 1]}}\n{block}"))


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped configs, and for the runs."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["transition.yaml", "transition-symbolic.yaml"])
def test_both_ends_of_a_shipped_range_can_be_run(shipped: Path, name: str) -> None:
    plan = make_plan(read_sweep(Path("configs/sweeps") / name))
    settings = Threshold(plan).settings  # which asks the generator
    for end in (settings.low, settings.high):
        config = configuration.load(str(plan.sweep.base), [f"{settings.key}={end}"])
        assert config.data.kind != "symbolic" or symbolic_sampler(config.data).max_objects == 2


def test_an_end_whose_data_cannot_be_made_is_refused_before_any_run(shipped: Path) -> None:
    text = (ROOT / "configs/sweeps/transition.yaml").read_text()
    base = f"base: {ROOT}/configs/transition.yaml"
    (shipped / "s.yaml").write_text(text.replace("base: ../transition.yaml", base).replace("low: 0.2", "low: 0.1"))
    plan = make_plan(read_sweep(shipped / "s.yaml"))
    with pytest.raises(InputError, match=r"^threshold\.low: data\.coverage: 0\.1 gives 13 training objects"):
        Threshold(plan)
    assert not plan.folder.exists()
