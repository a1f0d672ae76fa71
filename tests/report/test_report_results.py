"""The printed table and the plain words about binding."""

import pytest

from dualenc.report import results_text
from dualenc.report.results import format_count, format_number
from dualenc.report.wording import verdict


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "\u2013"),
        (0.0, "0.000"),
        (1.0, "1.000"),
        (0.95812, "0.958"),
        (0.9996, "0.9996"),
        (0.99999, "0.9999"),
        (0.0005, "5e-04"),
        (1 / 124_750, "8e-06"),
        (0.00096, "0.001"),
        (-0.103, "-0.103"),
    ],
)
def test_numbers_are_readable_and_never_rounded_to_a_perfect_score(value, shown):
    assert format_number(value) == shown


def test_counts_are_whole():
    assert format_count(125_000.0) == "125,000"
    assert format_count(None) == "\u2013"


def summary_of(**values: float | None) -> dict:
    return {"name": "tiny", "samples": 1000, "metrics": {f"ood/{key}": value for key, value in values.items()}}


def test_the_table_shows_chance_candidates_and_null():
    summary = summary_of(
        concept_recognition=0.9,
        object_recognition=0.5,
        bag_level=1 / 6,
        binding_gain=None,
        concept_chance=1 / 1820,
        object_chance=1 / 2016,
        concept_candidates=16.0,
        object_candidates=64.0,
    )
    cells = ["ood", "0.900", "0.500", "0.167", "\u2013", "5e-04 / 5e-04", "16 / 64"]
    heading, row = results_text(summary).splitlines()
    assert row.split("  ")[0] == "ood"
    assert [cell.strip() for cell in row.split("  ") if cell.strip()] == cells
    assert heading.split("  ")[-1].strip() == "candidates"


BASE = {"concept_recognition": 0.97, "bag_level": 0.41, "bag_ceiling": 0.54, "num_scenes": 2000.0}


def said_of_ood(**values: float | None) -> str:
    return " ".join(verdict(summary_of(**{**BASE, **values})["metrics"]))


@pytest.mark.parametrize(
    ("object_recognition", "gain", "words"),
    [
        (0.99, 0.978, "the model binds:"),
        (0.85, 0.674, "binds in most scenes"),
        (0.65, 0.239, "binds in part"),
        (0.55, 0.0217, "no evidence of binding"),  # above the ceiling by less than sampling error
        (0.43, -0.239, "no evidence of binding"),
        (0.2, -0.739, "stays below the bag level"),
    ],
)
def test_verdict_claims_no_more_than_the_bag_levels_allow(object_recognition, gain, words):
    assert words in said_of_ood(object_recognition=object_recognition, binding_gain=gain)


def test_verdict_knows_when_nothing_can_be_said():
    unclear = said_of_ood(concept_recognition=0.6, object_recognition=0.5, binding_gain=0.9)
    assert "does not yet recognise single concepts" in unclear
    assert "undefined" in said_of_ood(object_recognition=0.5, binding_gain=None)
    assert verdict({"train/loss": 1.0}) == []


def test_verdict_on_captions_warns_only_where_binding_is_not_shown():
    weak = said_of_ood(object_recognition=0.43, binding_gain=-0.2, caption_vs_swap=0.975)
    strong = said_of_ood(object_recognition=0.99, binding_gain=0.98, caption_vs_swap=0.975)
    assert "97.5 %" in weak
    assert "does not imply binding" in weak
    assert "97.5 %" in strong
    assert "does not imply binding" not in strong


def test_verdict_on_seen_objects_uses_the_ceiling_with_memory():
    metrics = {"val/concept_recognition": 1.0, "val/object_recognition": 0.9, "val/binding_gain": 0.0}
    metrics |= {"val/bag_level": 0.3, "val/bag_ceiling": 0.5, "val/bag_ceiling_split": 0.9}
    [sentence] = verdict(metrics)
    assert "no evidence of binding" in sentence
    assert "0.900 if it also remembers the training objects" in sentence
