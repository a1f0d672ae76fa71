"""`python -m dualenc.analyze` on a run and on checkpoints: where scenes come from, what is written, what is refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import make

import dualenc
from dualenc import analyze
from dualenc.analysis.studies import STUDIES, DecompositionOptions, StudyOptions
from dualenc.analysis.targets import PretrainedTarget, RunTarget, check_side, embed_splits, open_target
from dualenc.data import Dataset
from dualenc.errors import InputError
from dualenc.reopen import reopen
from dualenc.scenes import Scenes

ROOT = Path(__file__).resolve().parents[2]
COLORS, SHAPES = ["red", "blue", "green", "gray"], ["circle", "square", "star", "cross"]
PICTURES = """
data:
  name: pairs
  concepts: {color: [red, blue, green, gray], shape: [circle, square, star, cross]}
  coverage: 0.5
  layout: fixed
  objects: {1: 0.3, 2: 0.7}
  num_samples: {train: 90, val: 20, val_ood: 20, ood: 60, mixed: 40}
  picture: {size: 24, format: png}
  num_workers: 1
"""
FEW = ["num_scenes=40", "object_probe=false", "num_queries=20"]


def python(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one or two objects at fixed places."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "pairs.yaml").write_text(PICTURES)
    done = python("-m", "data_gen", "pairs.yaml", "data.out=pairs", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "pairs"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on token scenes, hardly trained."""
    folder = tmp_path_factory.mktemp("runs")
    done = python(
        *("-m", "dualenc.fit", ROOT / "configs" / "symbolic.yaml", f"run.dir={folder}", "trainer.max_samples=64"),
        *("trainer.batch_size=32", "trainer.threads=1", "eval.num_scenes=20", "eval.every=64", "data.num_workers=0"),
        *("data.symbolic.num_samples=20", "data.symbolic.num_values=4", "data.symbolic.coverage=0.5"),
        *("data.symbolic.objects={1: 0.3, 2: 0.7}", "logging.wandb=disabled", "logging.progress=false"),
        "run.report=false",
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`checkpoint(kind)` -> a folder."""
    return lambda kind: make(kind, tmp_path_factory.mktemp("checkpoints") / kind, [*COLORS, *SHAPES])


def refusal(*arguments: str | Path) -> str:
    """The one line with which a command is refused."""
    with pytest.raises(InputError) as refused:
        analyze.main([str(argument) for argument in arguments])
    assert "\n" not in str(refused.value)
    return str(refused.value)


def result_of(folder: Path, study: str) -> dict[str, Any]:
    return json.loads((folder / f"{study}.json").read_text())


def test_a_run_is_analysed_into_files_and_its_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "report.html").touch()
    analyze.main(["decomposition", str(run), *FEW, "seed=3"])
    assert capsys.readouterr().out.splitlines() == [str(run / "analysis/decomposition.md"), str(run / "report.html")]
    first = result_of(run / "analysis", "decomposition")
    assert first["target"]["run"] == run.name
    assert first["options"]["seed"] == 3
    statuses = {row["status"] for row in first["result"]["tables"]["Level I"]}
    assert statuses == {"all", "train", "heldout", "mixed"}
    assert {row["estimator"] for row in first["result"]["tables"]["Level II"]} == {"avg", "avg+pos", "single-obj"}
    written = {path.name for path in (run / "analysis/figures").iterdir()}
    assert written == {f"{name}.{kind}" for name in first["figures"] for kind in ("png", "pdf")}
    assert first["figures"]
    text = (run / "analysis/decomposition.md").read_text()
    assert "| objects | embeddings | estimator |" in text
    page = (run / "report.html").read_text()
    assert '<section id="analysis"><h2>Analysis</h2>' in page
    assert "Object vectors as concept sums" in page


def test_a_run_s_scenes_are_embedded_as_its_tower_gives_them(run: Path) -> None:
    options = StudyOptions(num_scenes=30, batch_size=16)
    target = open_target(str(run), options)
    assert isinstance(target, RunTarget)
    one, two = target.embed()
    assert (one.num_objects, two.num_objects) == (1, 2)
    assert one.num_scenes + two.num_scenes == 4 * 30  # more than data.symbolic.num_samples, and none of val_ood
    assert two.slots == "mention"
    model = dualenc.load(run)
    found = model.encode_scenes(Scenes.of(model.space, two.objects))
    torch.testing.assert_close(two.normalized().embeddings, found, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(two.embeddings.norm(dim=1), torch.ones(two.num_scenes))
    split = reopen(model).split
    assert two.train is not None
    assert two.train.tolist() == split.train.tolist()
    assert not np.isin(two.objects, split.val_ood).any()
    assert set(two.status) == {"train", "heldout", "mixed"}
    (with_choosers,) = replace_splits(target, ["val_ood"]).embed()[1:]
    assert np.isin(with_choosers.objects, split.val_ood).all()


def replace_splits(target: RunTarget, splits: list[str]) -> RunTarget:
    return replace(target, options=replace(target.options, splits=splits))


def test_held_out_objects_among_training_scenes_are_caught(run: Path) -> None:
    target = open_target(str(run), StudyOptions(num_scenes=30))
    assert isinstance(target, RunTarget)
    leaking = replace(target, train=target.train[1:])  # an object that train scenes show is called held out
    with pytest.raises(InputError, match=r"scenes of train show objects of the other side of the split"):
        leaking.embed()
    scenes = Scenes.of(target.source.space, np.array([[0, -1], [1, 2]]))
    check_side("train", scenes, np.array([0, 1, 2]))
    check_side("ood", scenes, np.array([5]))
    for split, train in (("train", [0, 1]), ("ood", [2]), ("mixed", [1])):
        with pytest.raises(InputError, match=f"of 2 scenes of {split}"):
            check_side(split, scenes, np.array(train))


def test_a_pretrained_model_sees_the_pictures_of_a_dataset(checkpoint: Callable[[str], Path], pictures: Path) -> None:
    options = DecompositionOptions(num_scenes=50, object_probe=False, num_queries=20)
    options.data.path = str(pictures)
    folder = checkpoint("dinov2")
    target = open_target(f"hf:{folder}", options)
    assert isinstance(target, PretrainedTarget)
    one, two = target.embed()
    assert two.slots == "place"
    assert two.train is None
    dataset = Dataset(pictures)
    dataset.verify()
    images = dataset.images("train", np.arange(50))
    counts = (dataset.scenes("train", np.arange(50)).objects >= 0).sum(axis=1)
    expected = target.model.pictures(images[counts == 2])
    torch.testing.assert_close(two.embeddings[: len(expected)], expected)
    assert one.num_scenes + two.num_scenes == 50 + 20 + 50 + 40
    result = STUDIES["decomposition"].load()((one, two), options)
    assert {row["status"] for row in result["tables"]["Level I"]} == {"all"}


def test_recognition_asks_a_pretrained_model_in_words(
    checkpoint: Callable[[str], Path], pictures: Path, tmp_path: Path, run: Path
) -> None:
    folder = checkpoint("clip")
    out = tmp_path / "results"
    analyze.main(["recognition", f"hf:{folder}", f"data.path={pictures}", f"out={out}"])
    found = result_of(out, "recognition")
    metrics = found["result"]["metrics"]
    assert {key.partition("/")[0] for key in metrics} == {"val", "val_ood", "ood", "mixed"}
    assert metrics["ood/num_scenes"] == 60
    assert metrics["ood/object_candidates"] == 16
    assert metrics["ood/caption_vs_swap"] is not None
    assert metrics["val/recall_at_1_scene_to_query"] is not None
    # by hand: one scene's score of every object
    model = open_target(f"hf:{folder}", _with_data(StudyOptions(), pictures))
    assert isinstance(model, PretrainedTarget)
    dataset = Dataset(pictures)
    dataset.verify()
    unit = torch.nn.functional.normalize
    scores = (
        unit(model.model.pictures(dataset.images("ood", np.arange(60))), dim=1)
        @ unit(model.model.texts([dataset.grammar.object_query(i) for i in range(16)]), dim=1).T
    )
    objects = dataset.scenes("ood", np.arange(60)).objects
    right = 0
    for row, ids in zip(scores, objects):
        shown = set(ids[ids >= 0].tolist())
        others = [i for i in range(16) if i not in shown]
        right += bool(row[list(shown)].min() > row[others].max())
    assert metrics["ood/object_recognition"] == pytest.approx(right / 60)

    assert "dinov2 has no text tower" in refusal(
        "recognition", f"hf:{checkpoint('dinov2')}", f"data.path={pictures}", f"out={out}"
    )
    assert "use python -m dualenc.evaluate" in refusal("recognition", run)


def _with_data(options: StudyOptions, path: Path) -> StudyOptions:
    options.data.path = str(path)
    return options


def test_texts_and_their_single_objects(checkpoint: Callable[[str], Path]) -> None:
    options = StudyOptions(scenes="text", num_scenes=30)
    options.text.attributes = options.text.objects = 3
    one, two = open_target(f"hf:{checkpoint('siglip')}", options).embed()
    assert one.objects.tolist() == [[i] for i in range(9)]
    assert (two.num_scenes, two.slots, two.space.names) == (30, "mention", ("attribute", "object"))


def test_diverged_weights_are_named(run: Path) -> None:
    target = open_target(str(run), StudyOptions(num_scenes=10))
    assert isinstance(target, RunTarget)
    with torch.no_grad():
        target.loaded.model.scene_tower.projection.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"embeddings: \d+ of \d+ hold NaN or Inf"):
        target.embed()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "STUDY: it is missing; use one of decomposition"),
        (["decompose", "RUN"], "STUDY: 'decompose' is unknown"),
        (["decomposition"], "TARGET: it is missing; usage: python -m dualenc.analyze"),
        (["decomposition", "nowhere"], "nowhere: no such run folder"),
        (["decomposition", "RUN", "num_scene=3"], "did you mean num_scenes"),
        (["decomposition", "RUN", "scenes=text"], "scenes: text is for hf: targets"),
        (["decomposition", "RUN", "splits=[train,test]"], "splits: give some of train, val"),
        (["decomposition", "RUN", "splits=[]"], "splits: give some of"),
        (["decomposition", "RUN", "num_scenes=2"], "too few for probes"),
        (["multiplicative", "RUN", "count=3"], "at most 2 objects, this study needs 3"),
        (["multiplicative", "RUN", "ranks=[]"], "ranks: there are none"),
        (["capacity", "RUN", "coverages=[]"], "coverages: there are none"),
        (["capacity", "RUN", "widths=[]", "forest=false"], "widths: no approximator is left"),
        (["probes", "hf:random:clip-vit-base-patch32", "scenes=text", "count=3"], "count: texts show two objects"),
        (["decomposition", "RUN", "out=/dev/null"], "out: /dev/null is a file; give a folder"),
        (
            ["multiplicative", "hf:random:clip-vit-base-patch32", "scenes=text"],
            "coverage: an hf: target has no training",
        ),
        (["decomposition", "hf:nowhere", "scenes=text"], "TARGET: nowhere holds no readable config.json"),
        (["decomposition", "hf:random:clip"], "use hf:random: with one of clip-vit-base-patch32"),
        (["decomposition", "hf:random:clip-vit-base-patch32"], "data.path: give a dataset with pictures"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    arguments: list[str], part: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(run.rglob("*"))
    given = [str(run) if argument == "RUN" else argument for argument in arguments]
    assert part in refusal(*given)
    assert sorted(run.rglob("*")) == before
    assert not list(tmp_path.iterdir())


def test_empty_splits_are_refused(run: Path) -> None:
    target = open_target(str(run), StudyOptions())
    assert isinstance(target, RunTarget)
    target.source.num_samples = lambda split: 0  # type: ignore[method-assign]
    with pytest.raises(InputError, match="hold no scenes"):
        embed_splits(target.source, lambda inputs: torch.zeros(1, 1), target.options, slots="none", train=None)


def test_options_without_effect_are_named() -> None:
    options = StudyOptions(weights="best", scenes="text", splits=["val"])
    options.data.path = "x"
    notes = analyze.idle("hf:x", options)
    assert [note.split()[1] for note in notes] == ["weights", "data.path", "splits"]
    options = StudyOptions()
    options.text.objects = 3
    assert [note.split()[1] for note in analyze.idle("runs/x", options)] == ["text"]


def test_the_command_line_says_what_there_is_before_torch_is_imported(tmp_path: Path) -> None:
    script = """
import sys
from dualenc import analyze
for arguments in (["--help"], ["decomposition", "--help"]):
    try:
        analyze.main(arguments)
    except SystemExit as end:
        assert end.code == 0
try:
    analyze.main(["decomposition", "hf:nowhere", "scenes=text"])
except ValueError as error:
    print(error)
assert "torch" not in sys.modules
"""
    done = python("-c", script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in (*STUDIES, "num_queries", "hf:FOLDER", "is no checkpoint"):
        assert part in done.stdout
