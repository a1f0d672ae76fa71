"""How fast pictures are drawn and written, each figure beside the limit that it is held against.

    python benchmarks/render.py [--quick] [--json PATH]

Everything is measured in this one run. Pictures/s are per second of one core: of this process's CPU time, the best of
several repeats on the same scenes, so that other work on the machine disturbs little. The gain of a second process is
measured on the clock, with a second process that waits meanwhile; what pure arithmetic gains stands beside it, since
two cores may share one set of arithmetic units. Names that end in _ratio are ratios.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import simplejpeg
from common import options, report

from data_gen.config import DataConfig, load_config
from data_gen.recipe import Recipe, Sample
from data_gen.render import blender
from data_gen.render.clevr import device
from data_gen.render.clevr.renderer import ClevrRenderer
from data_gen.shards import PROGRESS, Shard, write_shard
from data_gen.tally import Tally
from dualenc.scenes import Scenes

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "data"
SPLIT = "val"
BLENDER_SAMPLES = 512
AT_LEAST = {
    "clevr/mixed_pictures_per_s": 250,
    "clevr/blender_ratio": 1000,
    "clevr/two_processes_ratio": 1.8,
    "flat/end_to_end_pictures_per_s": 2000,
    "flat/encode_and_write_ratio": 0.5,
}
AT_MOST = {"clevr/difference_to_4x4": 1.5}


def core_seconds(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of this process for one call, the best of several."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def clevr_config(num_objects: int | None, *more: str) -> DataConfig:
    """CLEVR's own space at 128 px; scenes of 1 to 6 objects in equal shares, or of one number of them."""
    objects = "{1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1}" if num_objects is None else f"{{{num_objects}: 1}}"
    overrides = [f"data.objects={objects}", "data.picture.size=128", "data.opposites={}", *more]
    return load_config(CONFIGS / "clevr.yaml", overrides)


def drawable(data: DataConfig, number: int) -> tuple[ClevrRenderer, Scenes]:
    """The renderer of a config, and its first scenes that show every object."""
    recipe = Recipe(data)
    assert isinstance(recipe.renderer, ClevrRenderer)
    scenes = recipe.scenes(SPLIT, 0, 2 * number)
    pictures = enumerate(recipe.renderer.draw(scenes, SPLIT, 0))
    return recipe.renderer, scenes[[i for i, (_, drawn) in pictures if recipe.renderer.shows(drawn)][:number]]


def drawn(renderer: ClevrRenderer, scenes: Scenes) -> list[np.ndarray]:
    """The pictures of the scenes."""
    return [pixels for pixels, _ in renderer.draw(scenes, SPLIT, 0)]


def encoded(pixels: np.ndarray) -> bytes:
    """A JPEG as the maker encodes it."""
    return simplejpeg.encode_jpeg(pixels, quality=95, colorsubsampling="444")


class Prepared:
    """Stands in for a recipe whose samples are there already, all of them but, where pictures are given, the JPEGs."""

    def __init__(self, samples: Sequence[Sample], pictures: Sequence[np.ndarray] = ()) -> None:
        self._samples, self._pictures = samples, pictures

    def samples(self, split: str, start: int, stop: int, tally: Tally) -> Iterator[Sample]:
        """Samples start..stop-1."""
        if not self._pictures:
            yield from self._samples[start:stop]
        for sample, pixels in zip(self._samples[start:stop], self._pictures[start:stop]):
            yield replace(sample, image=encoded(pixels))


def write(recipe: "Recipe | Prepared", number: int) -> None:
    """Writes a shard of so many samples, as the maker does, and removes it."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", PROGRESS):
            (Path(folder) / part).mkdir()
        write_shard(recipe, Path(folder), Shard("train", 0, 0, number), lambda _: None)  # type: ignore[arg-type]


def measure_clevr(number: int, repeats: int) -> dict[str, float]:
    """The 3-D style: pictures/s, and how near the pictures come to 16 samples of every pixel."""
    found: dict[str, float] = {}
    renderer, six = drawable(clevr_config(6), number)
    pictures = drawn(renderer, six)
    found["clevr/six_objects_pictures_per_s"] = number / core_seconds(lambda: drawn(renderer, six), repeats)
    bare = [Sample(f"val-{i:08d}", "jpg", b"", b"a cube", b"{}", None) for i in range(number)]
    limit = number / core_seconds(lambda: write(Prepared(bare, pictures), number), repeats)
    found["clevr/jpeg_and_tar_pictures_per_s"] = limit
    found["clevr/drawing_of_jpeg_and_tar_ratio"] = found["clevr/six_objects_pictures_per_s"] / limit
    renderer, mixed = drawable(clevr_config(None), number)
    found["clevr/mixed_pictures_per_s"] = number / core_seconds(lambda: drawn(renderer, mixed), repeats)
    some = mixed[: max(4, number // 8)]
    reference = renderer.render(some, SPLIT, 0, samples=4, everywhere=True).pixels.astype(float)
    for name, samples in (("", 0), ("_of_one_sample", 1)):
        pixels = renderer.render(some, SPLIT, 0, samples=samples).pixels
        found[f"clevr/difference_to_4x4{name}"] = float(np.abs(pixels - reference).mean())
    renderer, many = drawable(clevr_config(None, "data.concepts.shape=50"), number)
    found["clevr/mixed_of_50_shapes_pictures_per_s"] = number / core_seconds(lambda: drawn(renderer, many), repeats)
    return found


def measure_end_to_end(name: str, data: DataConfig, number: int, repeats: int) -> dict[str, float]:
    """A shard from the config to the disk, and its parts: encoding and writing against writing what is encoded."""
    recipe = Recipe(data)
    samples = list(recipe.samples("train", 0, number, Tally()))
    pictures = [simplejpeg.decode_jpeg(sample.image) for sample in samples]
    rates = [
        number / core_seconds(lambda source=source: write(source, number), repeats)  # type: ignore[misc]
        for source in (recipe, Prepared(samples, pictures), Prepared(samples))
    ]
    return {
        f"{name}/end_to_end_pictures_per_s": rates[0],
        f"{name}/encode_and_write_pictures_per_s": rates[1],
        f"{name}/write_pictures_per_s": rates[2],
        f"{name}/encode_and_write_ratio": rates[1] / rates[2],
    }


def arithmetic(number: int) -> None:
    """Work that touches no memory worth speaking of."""
    values = np.arange(4096.0)
    for _ in range(number * 40):
        np.sqrt(values * values + 1.0, out=values)


def _work(pipe: Connection, number: int) -> None:
    """A process that draws, or does arithmetic, each time it is told to, and says when it is done."""
    renderer, scenes = drawable(clevr_config(None), number)
    drawn(renderer, scenes[:2])
    pipe.send("ready")
    while (what := pipe.recv()) != "end":
        for _ in range(2):
            if what == "draw":
                drawn(renderer, scenes)
            else:
                arithmetic(number)
        pipe.send("done")


def measure_processes(number: int, repeats: int) -> dict[str, float]:
    """What two processes do in the time of one, for drawing and for pure arithmetic, on the clock."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(2):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_work, args=(theirs, number), daemon=True))
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    found: dict[str, float] = {}
    for what, name in (("draw", "clevr/two_processes_ratio"), ("arithmetic", "arithmetic/two_processes_ratio")):
        seconds = [[_clock(pipes[:busy], what) for _ in range(repeats)] for busy in (1, 2)]
        found[name] = 2 * min(seconds[0]) / min(seconds[1])
    for pipe in pipes:
        pipe.send("end")
    for process in processes:
        process.join()
    return found


def _clock(pipes: list[Connection], what: str) -> float:
    start = time.perf_counter()
    for pipe in pipes:
        pipe.send(what)
    for pipe in pipes:
        pipe.recv()
    return time.perf_counter() - start


def measure_blender(number: int, repeats: int) -> dict[str, float]:
    """Blender Cycles on the same scenes, on one thread; nothing where it is not installed."""
    if not blender.available():
        print("Blender: bpy not installed (see data_gen/render/blender.py), so its ratio is left out", file=sys.stderr)
        return {}
    chosen = blender.choose(str(CONFIGS / "clevr.yaml"), blender.BlenderConfig(num=number), ["data.objects={6: 1}"])
    with tempfile.TemporaryDirectory() as folder:
        pictures = blender.draw(chosen.description(), Path(folder), BLENDER_SAMPLES)
    arguments = (chosen.scenes, chosen.split, chosen.numbers)
    own = core_seconds(lambda: list(chosen.renderer.draw(*arguments)), repeats) / number
    theirs = float(np.mean(pictures.seconds))
    return {"clevr/blender_pictures_per_s": 1 / theirs, "clevr/blender_ratio": theirs / own}


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    chosen = options(__doc__)
    number, repeats = (48, 5) if chosen.quick else (192, 9)
    device.prepare()
    flat = load_config(CONFIGS / "flat.yaml", ["data.picture.size=64"])
    found = measure_clevr(number, repeats)
    found |= measure_end_to_end("clevr", clevr_config(None), number, repeats)
    found |= measure_end_to_end("flat", flat, 10 * number, repeats)
    found |= measure_processes(number, repeats)
    found |= measure_blender(2 if chosen.quick else 6, repeats)
    report(found, chosen.json, at_least=AT_LEAST, at_most=AT_MOST)


if __name__ == "__main__":
    main()
