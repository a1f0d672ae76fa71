"""`python -m data_gen.palette [--style flat|clevr] [--out FILE] [--report]`: a sheet of all that a style can draw.

The sheet is a PNG with one picture of every value of every concept and its name, so that a person can check by eye that
values differ and are what they are called. The report says in numbers how well values can be told apart.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_gen.config import ClevrConfig, PictureConfig
from data_gen.render.styles import make_renderer
from data_gen.render.tables import VALUES, size_scales
from data_gen.separation import CONDITIONS, CROP, crop, separation
from dualenc.errors import InputError, check_output, run_cli
from dualenc.files import atomic_write
from dualenc.scenes import ConceptSpace, Scenes

USAGE = """python -m data_gen.palette [--style flat|clevr] [--out FILE] [--report]

Draws one picture of every value of every concept of a style (default: flat) with its name, as a PNG
(default: palette-STYLE.png). The last line on stdout is its path.
With --report no sheet is drawn: a table says, for crops of single objects, which pairs of values a nearest-class-mean
classifier confuses most, with fixed and with free pose, light and place.
Exit code 0: done; 2: bad input; 130: interrupted.
"""

_CELL, _NAME, _MARGIN, _COLUMNS = 88, 20, 24, 10  # pixels, pixels, pixels, cells
_SHOWN = {  # the object whose value of one concept changes
    "flat": {"color": "blue", "shape": "square", "size": "large"},
    "clevr": {"color": "blue", "shape": "cube", "size": "large", "material": "rubber"},
}
_SHAPE_SHOWN = {  # which shape shows the values of a concept best
    "flat": {"orientation": "arrow", "color": "circle"},
    "clevr": {"orientation": "arrow", "color": "sphere", "material": "sphere"},
}
_REPORTED = ("shape", "color")
_WORST = 10
_CROPS = 60


@dataclass(frozen=True)
class Options:
    """What the command was asked for."""

    style: str = "flat"
    out: Path | None = None
    report: bool = False


def sheet(style: str) -> Image.Image:
    """The sheet of a style: a row of pictures with names for every concept."""
    font, title = ImageFont.load_default(12), ImageFont.load_default(18)
    sections = list(VALUES[style].items())
    heights = [40 + -(-len(values) // _COLUMNS) * (_CELL + _NAME) for _, values in sections]
    size = (2 * _MARGIN + _COLUMNS * _CELL, 2 * _MARGIN + sum(heights))
    image = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(image)
    top = _MARGIN
    for (concept, values), height in zip(sections, heights):
        canvas.text((_MARGIN + 4, top + 6), f"{concept}: {len(values)}", font=title, fill="black")
        for k, (value, pixels) in enumerate(zip(values, pictures(style, concept))):
            x = _MARGIN + k % _COLUMNS * _CELL
            y = top + 34 + k // _COLUMNS * (_CELL + _NAME)
            image.paste(Image.fromarray(pixels), (x + 2, y + 2))
            canvas.text((x + _CELL / 2, y + _CELL + 7), value, font=font, fill="black", anchor="mm")
        top += height
    return image


def pictures(style: str, concept: str) -> Iterator[np.ndarray]:
    """uint8 [cell - 4, cell - 4, 3]: for each value of a concept an object that has it, in one pose and light."""
    values = VALUES[style][concept]
    shown = _SHOWN[style] | {"shape": _SHAPE_SHOWN[style].get(concept, _SHOWN[style]["shape"])}
    space = ConceptSpace.named({name: [word] for name, word in shown.items() if name != concept} | {concept: values})
    picture = PictureConfig(
        size=240,
        object_size=0.44,
        background=(0.88, 0.88),
        size_jitter=0.0,
        color_jitter=0.0,
        rotation=0.0,
        clevr=ClevrConfig(camera_jitter=0.0, light_jitter=0.0, samples=4),
    )
    renderer = make_renderer(style, space, picture, max_objects=1, seed=0)
    num = len(values)
    scenes = Scenes(space, np.arange(num)[:, None], np.full((num, 1, 2), 0.5, dtype=np.float32))
    scales = size_scales(values) if concept == "size" else [1.0] * num
    for (pixels, drawn), scale in zip(renderer.draw(scenes, "val", 0), scales):
        yield np.rint(255 * crop(pixels, drawn[0], _CELL - 4, wider=1.4 / scale)).astype(np.uint8)


def report(style: str, num: int = _CROPS) -> Iterator[str]:
    """The lines of a table: the pairs of values that are hardest to tell apart, and how often they are."""
    yield f"{style}: nearest class mean on {CROP} px crops of single objects; {num} of each value held out"
    for concept in _REPORTED:
        for condition in CONDITIONS:
            found = separation(style, concept, condition, num=num)
            num_below = int((np.triu(found.accuracy < 0.99, k=1)).sum())
            yield ""
            yield f"{concept}, {condition} pose: {num_below} of {_num_pairs(len(found.values))} pairs below 0.99"
            for first, second, accuracy in found.worst(_WORST):
                yield f"  {first:12} {second:12} {accuracy:.3f}"


def _num_pairs(num: int) -> int:
    return num * (num - 1) // 2


def parse(arguments: list[str]) -> Options:
    """The command line; InputError names a wrong flag or value."""
    style, out, wants_report = "flat", None, False
    rest = [part for argument in arguments for part in argument.split("=", 1)]
    while rest:
        flag = rest.pop(0)
        if flag == "--report":
            wants_report = True
        elif flag not in ("--style", "--out"):
            raise InputError(f"{flag}: unknown; say python -m data_gen.palette [--style flat|clevr] [--out FILE]")
        elif not rest or rest[0].startswith("--"):
            raise InputError(f"{flag}: has no value; say {flag} {'flat' if flag == '--style' else 'FILE.png'}")
        elif flag == "--style":
            style = rest.pop(0)
        else:
            out = Path(rest.pop(0))
    if style not in VALUES:
        raise InputError(f"--style: there is no style {style!r}; use {' or '.join(VALUES)}")
    if out is not None and wants_report:
        raise InputError("--out: has no effect with --report, which prints a table; leave one of them out")
    if out is not None and out.suffix != ".png":
        raise InputError(f"--out: {out} is not the name of a PNG file; let it end in .png")
    return Options(style, out, wants_report)


def main(arguments: list[str]) -> int:
    """Runs the command with these arguments and returns its exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(USAGE, end="")
        return 0
    options = parse(arguments)
    if options.report:
        for line in report(options.style):
            print(line, flush=True)
        return 0
    out = options.out or Path(f"palette-{options.style}.png")
    check_output(out, key="--out")
    buffer = io.BytesIO()
    sheet(options.style).save(buffer, "PNG")
    atomic_write(out, buffer.getvalue())
    print(out)
    return 0


if __name__ == "__main__":
    run_cli(main)
