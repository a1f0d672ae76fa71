"""The cross-check: the 3-D renderer's scenes drawn by Blender too, side by side, with times and differences.

    python -m data_gen.render.blender sheet CONFIG FILE.jpg        our pictures left, Blender's right
    python -m data_gen.render.blender describe CONFIG FILE.json    the scenes in plain numbers (blender_scene.py)
    python -m data_gen.render.blender draw FILE.json FOLDER        Blender's pictures of them (blender_draw.py)

Blender is no dependency. Its Python module `bpy` (GPL, 0.8 GB on disk) gets an environment of its own, which needs
nothing of this project, and BLENDER_PYTHON names that environment's interpreter:

    python3.11 -m venv blender-env && blender-env/bin/pip install "bpy>=5,<6" numpy
    export BLENDER_PYTHON=$PWD/blender-env/bin/python

From Python, as benchmarks do: `if available(): draw(describe(renderer, scenes, split, numbers), folder).seconds`.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dualenc import configs
from dualenc.configs import field
from dualenc.errors import InputError, check_output, run_cli
from dualenc.files import atomic_path, read_json, write_json
from dualenc.scenes import SPLITS

if TYPE_CHECKING:
    from data_gen.render.clevr.renderer import ClevrRenderer
    from dualenc.scenes import Scenes

USAGE = """python -m data_gen.render.blender sheet CONFIG FILE.jpg [key=value ...]
python -m data_gen.render.blender describe CONFIG FILE.json [key=value ...]
python -m data_gen.render.blender draw FILE.json FOLDER [samples=N]

The scenes of a 3-D data config as Blender draws them, to compare: a sheet with our pictures left and Blender's right
and a table of seconds and differences; the scenes in plain numbers; Blender's pictures of these. Sheet and draw need
Blender's Python module, in an environment of its own, whose interpreter BLENDER_PYTHON names.
Exit code 0: done; 2: bad input; 130: interrupted. Keys, beside data.KEY of the config:
"""

VARIABLE = "BLENDER_PYTHON"
INSTALL = (
    'say: python3.11 -m venv blender-env && blender-env/bin/pip install "bpy>=5,<6" numpy '
    f"&& export {VARIABLE}=$PWD/blender-env/bin/python"
)
SAMPLES = 512  # of a pixel, as CLEVR's pictures have

_SCRIPT = Path(__file__).with_name("blender_draw.py")
_FIND = "import importlib.util, sys; sys.exit(importlib.util.find_spec('bpy') is None)"
_COLUMNS, _GAP, _TITLE = 3, 8, 24  # pairs in a row, pixels, pixels
_CANDIDATES = 8  # scenes that are looked at for one that shows every object
_REPEATS = 5


@dataclass
class BlenderConfig:
    """Which scenes are drawn, and how well."""

    num: int = field(12, "scenes: the first of the split that show every object", minimum=1, maximum=1000)
    split: str = field("val", f"whose scenes, among {', '.join(SPLITS)}")
    samples: int = field(SAMPLES, "samples of a pixel in Blender; CLEVR has 512", minimum=1, maximum=2**16)


@dataclass(frozen=True)
class BlenderPictures:
    """What Blender drew.

    pixels: uint8 [n, s, s, 3]; seconds: of one core, for each picture, without the time to start Blender and to build
    the scene; version: Blender's.
    """

    pixels: np.ndarray
    seconds: list[float]
    version: str


@dataclass(frozen=True)
class Chosen:
    """Scenes of a config's split with their numbers [n], and the renderer that draws them."""

    renderer: "ClevrRenderer"
    scenes: "Scenes"
    split: str
    numbers: np.ndarray

    def description(self) -> dict[str, Any]:
        """The scenes in plain numbers."""
        from data_gen.render.blender_scene import describe

        return describe(self.renderer, self.scenes, self.split, self.numbers)


def available() -> bool:
    """Whether there is a Blender to draw with."""
    try:
        _interpreter()
    except InputError:
        return False
    return True


def draw(description: dict[str, Any], folder: Path, samples: int = SAMPLES) -> BlenderPictures:
    """Blender's pictures of a description, in `folder` as 0000.png, ...; how far it is goes to stderr.

    Cycles on one thread, all samples of every pixel drawn, no denoising. Raises InputError where there is no Blender.
    """
    interpreter = _interpreter()
    patterned = sum(thing["pattern"] != "plain" for scene in description["scenes"] for thing in scene["objects"])
    if patterned:
        print(f"warning: patterns are not drawn by Blender; {patterned} objects are plain there", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "scenes.json", description, indent=None)
    command = [interpreter, "-I", "-W", "ignore", str(_SCRIPT), str(folder / "scenes.json"), str(folder), str(samples)]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if code:
        raise InputError(f"{VARIABLE}: Blender ended with exit code {code}; what it said stands above")
    report = read_json(folder / "seconds.json")
    files = [folder / f"{i:04d}.png" for i in range(len(description["scenes"]))]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    return BlenderPictures(pixels, report["seconds"], report["blender"])


def _interpreter() -> str:
    """The interpreter that can import `bpy`: that of BLENDER_PYTHON, else this one. InputError says how to get it."""
    named = os.environ.get(VARIABLE)
    python = named or sys.executable
    try:
        lacks_bpy = subprocess.run([python, "-I", "-c", _FIND], check=False).returncode
    except OSError:
        raise InputError(f"{VARIABLE}: {python} cannot be run; {INSTALL}") from None
    if lacks_bpy:
        where = f"{VARIABLE}: {named} has no Blender" if named else "bpy: Blender's Python module is not installed"
        raise InputError(f"{where}; {INSTALL}")
    return python


def choose(config: str, options: BlenderConfig, overrides: list[str]) -> Chosen:
    """The first scenes of a data config's split that show every object. InputError where it is no 3-D config."""
    from data_gen.config import load_config
    from data_gen.recipe import Recipe

    if options.split not in SPLITS:
        raise InputError(f"split: there is no split {options.split!r}; use one of {', '.join(SPLITS)}")
    data = load_config(config, overrides)
    if data.style != "clevr":
        raise InputError(f"data.style: Blender draws scenes of the 3-D style only, not {data.style}; use clevr")
    from data_gen.render.clevr.renderer import ClevrRenderer

    recipe = Recipe(data)
    assert isinstance(recipe.renderer, ClevrRenderer)
    scenes = recipe.scenes(options.split, 0, options.num * _CANDIDATES)
    pictures = recipe.renderer.draw(scenes, options.split, 0)
    whole = (i for i, (_, drawn) in enumerate(pictures) if recipe.renderer.shows(drawn))
    accepted = np.array(list(islice(whole, options.num)), dtype=np.int64)
    if len(accepted) < options.num:
        raise InputError(
            f"num: of the first {len(scenes)} scenes only {len(accepted)} show every object; give num={len(accepted)}, "
            "or fewer or smaller objects"
        )
    return Chosen(recipe.renderer, scenes[accepted], options.split, accepted)


def make_sheet(chosen: Chosen, samples: int) -> tuple[Image.Image, dict[str, float | str]]:
    """The sheet, and what was measured: name -> value."""
    arguments = (chosen.scenes, chosen.split, chosen.numbers)
    times = []
    for _ in range(_REPEATS):
        start = time.process_time()
        ours = np.stack([pixels for pixels, _ in chosen.renderer.draw(*arguments)])
        times.append((time.process_time() - start) / len(ours))
    with tempfile.TemporaryDirectory() as folder:
        blender = draw(chosen.description(), Path(folder), samples)
    own, other = float(np.median(times)), float(np.mean(blender.seconds))
    difference = np.abs(ours.astype(np.int16) - blender.pixels)
    return _sheet(ours, blender.pixels, samples), {
        "scenes": len(ours),
        "side in pixels": chosen.renderer.picture.size,
        "Blender's version": blender.version,
        "samples of a pixel in Blender": samples,
        "seconds of one core for a picture, this renderer": own,
        "seconds of one core for a picture, Blender": other,
        "ratio": other / own,
        "mean absolute difference, of 255": float(difference.mean()),
        "share of values that differ by more than 25": float((difference > 25).mean()),
    }


def _sheet(ours: np.ndarray, theirs: np.ndarray, samples: int) -> Image.Image:
    """Pairs of pictures in rows, under a line that says which is which."""
    n, size = len(ours), ours.shape[1]
    columns = min(_COLUMNS, n)
    cell = 2 * size + _GAP
    image = Image.new("RGB", (columns * cell - _GAP, _TITLE + -(-n // columns) * (size + _GAP) - _GAP), "white")
    title = f"left: this renderer; right: Blender Cycles, {samples} samples"
    ImageDraw.Draw(image).text((4, 5), title, font=ImageFont.load_default(12), fill="black")
    for k, pair in enumerate(zip(ours, theirs)):
        corner = (k % columns * cell, _TITLE + k // columns * (size + _GAP))
        image.paste(Image.fromarray(np.concatenate(pair, axis=1)), corner)
    return image


def read_description(path: Path) -> dict[str, Any]:
    """A file that `describe` wrote. InputError where it is something else."""
    try:
        description = read_json(path)
        fits = description["format"] == 1 and bool(description["scenes"])
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist; make it with python -m data_gen.render.blender describe") from None
    except (ValueError, LookupError, TypeError):
        fits = False
    if not fits:
        raise InputError(f"{path}: is no scene description; make it with python -m data_gen.render.blender describe")
    return dict(description)


def _write_sheet(config: str, out: Path, options: BlenderConfig, overrides: list[str]) -> None:
    if out.suffix != ".jpg":
        raise InputError(f"{out}: is not the name of a JPEG file; let it end in .jpg")
    check_output(out, key="FILE.jpg")
    _interpreter()  # says no before long work
    image, measured = make_sheet(choose(config, options, overrides), options.samples)
    with atomic_path(out) as temporary:
        image.save(temporary, "JPEG", quality=88, subsampling=0)
    for name, value in measured.items():
        print(f"{name:50} {value if isinstance(value, int | str) else f'{value:.4g}'}")


def main(arguments: list[str]) -> int:
    """Runs the command with these arguments and returns its exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(f"{USAGE}\n{configs.help_text(BlenderConfig)}")
        return 0
    names, keys = arguments[:3], arguments[3:]
    if len(names) < 3 or names[0] not in ("sheet", "describe", "draw"):
        raise InputError("say: python -m data_gen.render.blender sheet CONFIG FILE.jpg, or --help for all it does")
    overrides = [key for key in keys if key.startswith("data.")]
    options = configs.load(BlenderConfig, None, [key for key in keys if not key.startswith("data.")])
    command, source, target = names[0], names[1], Path(names[2])
    if command == "sheet":
        _write_sheet(source, target, options, overrides)
    elif command == "describe":
        check_output(target, key="FILE.json")
        write_json(target, choose(source, options, overrides).description(), indent=None)
    else:
        draw(read_description(Path(source)), target, options.samples)
    print(target)
    return 0


if __name__ == "__main__":
    run_cli(main)
