"""Options without effect: what is said to have none changes no byte of a sample, and what has some is not said to."""

from pathlib import Path

import pytest

from data_gen.config import DataConfig, load_config
from data_gen.recipe import Recipe
from data_gen.tally import Tally

RELATIONAL = "data.captions.kinds={list: 1, relation: 1}"
NEGATION = "data.captions.kinds={negation: 1}"
POSITIVES = "data.captions.positives=2"
CLEVR = "data.style=clevr"
EXHAUSTIVE = "data.sampling=exhaustive"
PNG = "data.picture.format=png"

CASES: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]] = [  # option, where it has no effect, where it has
    ("slot_jitter=0.01", (), [("data.layout=fixed",)]),
    ("duplicates=true", (EXHAUSTIVE,), [()]),
    ("relations=[above]", (), [(RELATIONAL,), ("data.layout=relational",)]),
    ("relations=[behind]", (CLEVR,), [(CLEVR, RELATIONAL)]),
    ("relation_margin=0.2", (), [(RELATIONAL,), ("data.layout=relational",), (CLEVR,)]),
    ("captions.negation=[not]", (), [(NEGATION,)]),
    ("captions.paraphrases=[order]", (), [(POSITIVES,)]),
    ("picture.clevr.camera_jitter=0.1", (), [(CLEVR,)]),
    ("picture.clevr.light_jitter=0.1", (), [(CLEVR,)]),
    ("picture.clevr.samples=1", (), [(CLEVR,)]),
    ("picture.background=[0.1, 0.2]", (CLEVR,), [()]),
    ("picture.quality=40", (PNG,), [()]),
]


def load(tmp_path: Path, *overrides: str) -> DataConfig:
    """A small config with these overrides."""
    (tmp_path / "small.yaml").write_text(
        "data:\n  concepts: {color: 6, shape: 3}\n  coverage: 0.5\n  objects: {2: 1}\n"
        "  num_samples: {train: 60, val: 0, val_ood: 0, ood: 0, mixed: 0}\n"
    )
    return load_config(tmp_path / "small.yaml", overrides)


def members(data: DataConfig) -> list[list[tuple[str, str, bytes | None]]]:
    """All members of the first samples."""
    return [list(sample.members()) for sample in Recipe(data).samples("train", 0, 24, Tally())]


@pytest.mark.parametrize(("option", "idle", "busy"), CASES, ids=[option for option, *_ in CASES])
def test_an_option_is_said_to_have_no_effect_where_it_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, idle: tuple[str, ...], busy: list[tuple[str, ...]]
) -> None:
    def notes(*overrides: str) -> tuple[DataConfig, str]:
        return load(tmp_path, *overrides), capsys.readouterr().err

    plain, said = notes(*idle)
    assert said == ""
    changed, said = notes(*idle, f"data.{option}")
    assert said.startswith(f"note: data.{option.partition('=')[0]} has no effect with")
    assert len(said.splitlines()) == 1
    assert members(plain) == members(changed)
    for setting in busy:
        plain, _ = notes(*setting)
        changed, said = notes(*setting, f"data.{option}")
        assert said == ""
        assert members(plain) != members(changed)


@pytest.mark.parametrize(
    ("operators", "kinds", "is_idle"),
    [
        ("converse", "list: 1, count: 1, negation: 1", True),
        ("converse", "list: 1, relation: 1", False),
        ("connective", "list: 1, relation: 1", True),
        ("connective", "negation: 1", False),
        ("converse, connective", "partial: 1", True),
        ("converse, order", "list: 1", False),
    ],
)
def test_paraphrases_that_no_caption_can_have_are_said_to_have_no_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], operators: str, kinds: str, is_idle: bool
) -> None:
    data = load(tmp_path, POSITIVES, f"data.captions.paraphrases=[{operators}]", f"data.captions.kinds={{{kinds}}}")
    said = "note: data.captions.paraphrases has no effect on any kind in data.captions.kinds; add order, for example\n"
    assert capsys.readouterr().err == (said if is_idle else "")
    tally = Tally()
    list(Recipe(data).samples("train", 0, 60, tally))
    assert (tally.positives == 0) == is_idle


def test_the_number_of_lists_is_no_idle_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load(tmp_path, "data.captions.num=3")
    assert capsys.readouterr().err == ""
    assert members(data) != members(load(tmp_path))
