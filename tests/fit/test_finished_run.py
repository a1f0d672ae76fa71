"""What a complete run leaves behind, with its report and its offline wandb run."""

import io
from pathlib import Path

import numpy as np
from fit_commands import ROOT, Command
from PIL import Image

from dualenc.data import Dataset
from dualenc.report import read_run


def test_a_run_on_pictures_with_all_that_belongs_to_it_is_fewer_than_forty_files(
    fit: Command, pictures: Path, tmp_path: Path
) -> None:
    """Quotas of inodes are small; `eval.worst_scenes` and `logging.wandb` are left as they come."""
    arguments = [str(ROOT / "configs" / "quickstart.yaml"), "data.generate=null", f"data.path={pictures}"]
    arguments += ["trainer.max_samples=64", "trainer.batch_size=32", "trainer.checkpoint_seconds=0", "eval.every=32"]
    done = fit(*arguments, "trainer.threads=1", "data.num_workers=0", "model.scene.patch_size=8")
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / "runs").iterdir()
    left = sorted(str(path.relative_to(run)) for path in run.rglob("*"))
    assert len(left) < 40, left
    assert {f"checkpoints/{name}" for name in ("last.ckpt", "previous.ckpt", "best.safetensors")} <= {*left}
    assert {"report.html", "figures.zip", "examples/val.json"} <= {*left}
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1
    examples = read_run(run).examples
    assert {split: len(scenes) for split, scenes in examples.items()} == {
        "val": 24,
        "ood": 24,
        "mixed": 20,
        "val_ood": 20,
    }
    data = Dataset(pictures)
    for scene in (scene for scenes in examples.values() for scene in scenes[:3]):
        shown = np.asarray(Image.open(io.BytesIO(scene["image"])))
        assert np.array_equal(shown, data.image(scene["split"], scene["index"]))
