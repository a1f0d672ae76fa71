"""Law 8 for `python -m dualenc.fit`: one line that names the key, exit 2, nothing written."""

import json
from pathlib import Path

import pytest
from fit_commands import PICTURES, ROOT, Command

QUICKSTART = str(ROOT / "configs" / "quickstart.yaml")
SYMBOLIC = str(ROOT / "configs" / "symbolic.yaml")

WRONG = [
    ([QUICKSTART, "model.widht=3"], "model.widht"),
    ([QUICKSTART, "trainer.batchsize=3"], "trainer.batchsize"),
    ([QUICKSTART, "optim.lr=fast"], "optim.lr"),
    ([QUICKSTART, "optim.lr=0"], "optim.lr"),
    ([QUICKSTART, "optim.lr=nan"], "optim.lr"),
    ([QUICKSTART, "trainer.precision=16"], "trainer.precision"),
    ([QUICKSTART, "trainer.max_samples=0"], "trainer.max_samples"),
    ([QUICKSTART, "trainer.batch_size=1"], "trainer.batch_size"),
    ([QUICKSTART, "trainer.devices=5"], "trainer.batch_size"),
    ([QUICKSTART, "trainer.chunks=193"], "trainer.chunks"),
    ([QUICKSTART, "run.seed=-1"], "run.seed"),
    ([QUICKSTART, "run.name=a/b"], "run.name"),
    ([QUICKSTART, "run.seed=18446744073709551616"], "run.seed"),
    ([QUICKSTART, "run.name='a\nb'"], "run.name"),
    ([QUICKSTART, "optim.betas=[0.9,1.0]"], "optim.betas"),
    ([QUICKSTART, "trainer.timeout=1e300"], "trainer.timeout"),
    ([QUICKSTART, "logging.project='a/b c'"], "logging.project"),
    ([QUICKSTART, "data.coverage=0"], "data.coverage"),
    ([QUICKSTART, "data.coverage=1.3"], "data.coverage"),
    ([QUICKSTART, "data.coverage=0.1"], "coverage"),
    ([QUICKSTART, "data.coverage=0.97"], "coverage"),
    ([QUICKSTART, "data.generate=nowhere.yaml"], "data.generate"),
    ([QUICKSTART, "data.generate=null"], "data.path"),
    ([QUICKSTART, "data.generate=null", "data.path=nowhere"], "nowhere"),
    ([QUICKSTART, "data.path=somewhere"], "data.generate"),
    ([QUICKSTART, "data.queries.captions=0.9"], "data.queries"),
    ([QUICKSTART, "data.edits=[swop]"], "data.edits"),
    ([QUICKSTART, "data.edits_per_scene=2"], "data.edits"),
    ([QUICKSTART, "model.scene.patch_size=7"], "model.scene.patch_size"),
    ([QUICKSTART, "model.scene.heads=5"], "model.scene.heads"),
    ([QUICKSTART, "model.query.kind=symbolic"], "data.queries.captions"),
    ([QUICKSTART, "loss.clip.weight=1"], "loss.clip"),
    ([QUICKSTART, "loss.infonce.weight=0"], "loss"),
    ([QUICKSTART, "loss.svd.weight=1", "loss.svd.k=64"], "loss.svd.k"),
    ([QUICKSTART, "loss.cka.weight=1", "trainer.batch_size=3"], "loss.cka.debiased"),
    ([QUICKSTART, "loss.hard_negatives.weight=1", "data.edits=[]"], "loss.hard_negatives"),
    ([QUICKSTART, "model.initial_logit_bias=-10"], "model.initial_logit_bias"),
    ([QUICKSTART, "loss.targets=soft"], "loss.targets"),
    ([QUICKSTART, "logging.wandb=maybe"], "logging.wandb"),
    ([SYMBOLIC, "data.symbolic.objects={0: 1.0}"], "data.symbolic.objects"),
    ([SYMBOLIC, "data.symbolic.collision_rate=1.5"], "data.symbolic.collision_rate"),
    ([SYMBOLIC, "data.symbolic.objects={1: 1.0}", "data.symbolic.collision_rate=0.5"], "collision_rate"),
    ([SYMBOLIC, "data.symbolic.collision_rate=0.5", "trainer.batch_size=33"], "trainer.batch_size"),
    ([SYMBOLIC, "model.scene.kind=vision"], "model.scene.kind"),
    ([SYMBOLIC, "run.dir=/proc/nowhere"], "/proc/nowhere"),
    ([SYMBOLIC, "trainer.accelerator=gpu"], "trainer.accelerator"),
    (["nowhere.yaml"], "nowhere.yaml"),
    (["model.preset=tiny"], "CONFIG"),
    ([], "CONFIG"),
]


def assert_refused(done, tmp_path: Path, before: list[Path], word: str) -> None:
    assert done.returncode == 2, done.stderr
    errors = done.stderr.splitlines()
    assert len(errors) == 1, done.stderr
    assert word in errors[0]
    assert errors[0].startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("arguments", "word"), WRONG, ids=[" ".join(a[-1:]) or "nothing" for a, _ in WRONG])
def test_wrong_input_is_one_line_and_exit_2(arguments: list[str], word: str, fit: Command, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    before = sorted(tmp_path.rglob("*"))
    assert_refused(fit(*arguments), tmp_path, before, word)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["data.coverage=0.4"], "data.coverage"), (["data.seed=9"], "data.seed"), (["model.scene.patch_size=5"], "patch")],
)
def test_a_fixed_dataset_is_what_it_is(
    arguments: list[str], word: str, fit: Command, tmp_path: Path, pictures: Path
) -> None:
    done = fit(QUICKSTART, "data.generate=null", f"data.path={pictures}", *arguments)
    assert_refused(done, tmp_path, [], word)


def test_a_run_folder_of_another_config_is_refused(fit: Command, tmp_path: Path) -> None:
    arguments = [SYMBOLIC, "trainer.max_samples=64", "trainer.batch_size=32", "data.symbolic.num_samples=20"]
    arguments += ["run.report=false", "logging.wandb=disabled", "trainer.threads=1", "data.num_workers=0"]
    assert fit(*arguments, "run.seed=1").returncode == 0
    (run,) = (tmp_path / "runs").iterdir()
    (run / "summary.json").unlink()
    other = fit(*arguments, "run.seed=2", "run.dir=other")
    assert other.returncode == 0, other.stderr
    (target,) = (tmp_path / "other").iterdir()
    (target / "summary.json").unlink()
    (target / "config.yaml").write_text((run / "config.yaml").read_text())
    before = sorted(path for path in tmp_path.rglob("*"))
    assert_refused(fit(*arguments, "run.seed=2", "run.dir=other"), tmp_path, before, "another config")


def test_max_samples_is_rounded_up_with_a_note(fit: Command, tmp_path: Path) -> None:
    arguments = [SYMBOLIC, "trainer.batch_size=32", "data.symbolic.num_samples=20", "data.num_workers=0"]
    done = fit(*arguments, "trainer.max_samples=33", "run.report=false", "logging.wandb=disabled", "trainer.threads=1")
    assert done.returncode == 0, done.stderr
    assert "rounded up to 64" in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["samples"] == 64


def test_generation_happens_on_first_use_only(fit: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(PICTURES)
    arguments = [QUICKSTART, "data.generate=tiny.yaml", "trainer.max_samples=64", "trainer.batch_size=32"]
    arguments += ["trainer.threads=1", "data.num_workers=0", "run.report=false", "logging.wandb=disabled"]
    assert fit(*arguments).returncode == 0
    (dataset,) = (tmp_path / "data").iterdir()
    made = (dataset / "dataset.json").stat().st_mtime_ns
    assert fit(*arguments, "run.seed=1").returncode == 0
    assert (dataset / "dataset.json").stat().st_mtime_ns == made
    assert fit(*arguments, "data.coverage=0.4", "trainer.precision=bf16-mixed").returncode == 0
    assert len(list((tmp_path / "data").iterdir())) == 2
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_a_dataset_without_edits_and_with_single_objects_trains(fit: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(PICTURES)
    plain = "base: tiny.yaml\ndata: {edits: {swap: 0, replace: 0, add: 0}, objects: {1: 0.5, 2: 0.5}}\n"
    (tmp_path / "plain.yaml").write_text(plain)
    arguments = [QUICKSTART, "data.generate=plain.yaml", "trainer.max_samples=64", "trainer.batch_size=32"]
    arguments += ["trainer.threads=1", "data.num_workers=0", "run.report=false", "logging.wandb=disabled"]
    refused = fit(*arguments)
    assert refused.returncode == 2
    assert "data.edits" in refused.stderr
    done = fit(*arguments, "data.edits=[]")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    assert metrics["ood/caption_vs_swap"] is None
    assert metrics["ood/caption_vs_swap_count"] == 0
    assert 0 <= metrics["val/object_recognition_m1"] <= 1
