"""The cross-check against Blender: the scene description, Blender's meshes, the command; Blender where it is there."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_gen.render import blender, blender_draw
from data_gen.render.materials import MATERIALS
from data_gen.render.profiles import PROFILES
from data_gen.render.shapes import SOLIDS
from dualenc.errors import InputError

CONFIG = """
data:
  style: clevr
  concepts: {color: 8, shape: [sphere, cube, arrow, star, cone, goblet], pattern: [plain, striped]}
  objects: {2: 1.0, 3: 1.0}
  picture: {size: 64, object_size: 0.24}
"""
STAND_IN = """#!{python}
import json, shutil, sys
from pathlib import Path
if "-c" in sys.argv:
    sys.exit({lacks_bpy})
scenes, folder, samples = sys.argv[-3:]
for i in range(len(json.loads(Path(scenes).read_text())["scenes"])):
    shutil.copy({picture!r}, Path(folder) / f"{{i:04d}}.png")
report = {{"blender": "0.0", "samples": int(samples), "seconds": [2.0] * (i + 1)}}
(Path(folder) / "seconds.json").write_text(json.dumps(report))
sys.exit({code})
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The path of a small 3-D config."""
    path = tmp_path / "clevr.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def chosen(config: str) -> blender.Chosen:
    """Four of its scenes."""
    return blender.choose(config, blender.BlenderConfig(num=4), [])


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *, lacks_bpy: int = 0, code: int = 0) -> None:
    """Makes BLENDER_PYTHON a program that draws black pictures and ends with `code`."""
    Image.new("RGB", (64, 64)).save(folder / "black.png")
    script = folder / "python-with-blender"
    values = {"python": sys.executable, "lacks_bpy": lacks_bpy, "picture": str(folder / "black.png"), "code": code}
    script.write_text(STAND_IN.format(**values))
    script.chmod(0o755)
    monkeypatch.setenv(blender.VARIABLE, str(script))


def volume(vertices: np.ndarray, faces: list[list[int]]) -> float:
    """Volume inside a closed mesh whose faces face outward."""
    triangles = [[face[0], face[i], face[i + 1]] for face in faces for i in range(1, len(face) - 1)]
    return float(np.linalg.det(vertices[np.array(triangles)]).sum() / 6)


def test_the_description_says_where_the_picture_shows_each_object(chosen: blender.Chosen) -> None:
    description = chosen.description()
    drawn = list(chosen.renderer.draw(chosen.scenes, chosen.split, chosen.numbers))
    assert len(description["scenes"]) == len(drawn) == 4
    for scene, (_, objects) in zip(description["scenes"], drawn):
        camera = {name: np.array(vector) for name, vector in scene["camera"].items()}
        assert len(scene["objects"]) == len(objects)
        for thing, shown in zip(scene["objects"], objects):
            away = np.array(thing["center"]) - camera["eye"]
            depth = away @ camera["forward"]
            across = [away @ camera[side] / (camera[side] @ camera[side]) / depth for side in ("right", "up")]
            column, row = 32 * (1 + across[0]), 32 * (1 - across[1])
            x0, y0, x1, y1 = shown.box
            assert x0 - 1 <= column <= x1 + 1
            assert y0 - 1 <= row <= y1 + 1
            diameter = 64 * thing["scale"] / depth / np.linalg.norm(camera["right"])
            assert diameter == pytest.approx(shown.size, rel=0.03)


def test_the_description_names_what_the_scene_holds(chosen: blender.Chosen) -> None:
    description = chosen.description()
    scenes = chosen.scenes
    shape, pattern = (scenes.space.names.index(name) for name in ("shape", "pattern"))
    for scene, values in zip(description["scenes"], scenes.values):
        for thing, row in zip(scene["objects"], values):
            assert thing["shape"] == scenes.space.values[shape][row[shape]]
            assert thing["pattern"] == scenes.space.values[pattern][row[pattern]]
            assert thing["material"] == "rubber"
            solid = SOLIDS[thing["shape"]]
            assert description["solids"][thing["shape"]]["kind"] == solid.kind
            assert description["solids"][thing["shape"]]["height"] == solid.height


def test_describe_writes_what_draw_reads(config: str, chosen: blender.Chosen, tmp_path: Path) -> None:
    path = tmp_path / "scenes.json"
    assert blender.main(["describe", config, str(path), "num=4"]) == 0
    assert blender.read_description(path) == chosen.description()
    smaller = tmp_path / "smaller.json"
    assert blender.main(["describe", config, str(smaller), "num=1", "data.picture.size=48"]) == 0
    assert blender.read_description(smaller)["size"] == 48


def test_meshes_of_solids_are_closed_and_face_outward() -> None:
    sphere = blender_draw.revolved(PROFILES["circle"].polygons()[0])
    assert volume(*sphere) == pytest.approx(4 / 3 * np.pi * 0.88**3, rel=0.01)
    cone = SOLIDS["cone"]
    drawn = blender_draw.tapered(PROFILES["circle"].polygons()[0], cone.height, cone.top)
    assert volume(*drawn) == pytest.approx(np.pi / 3 * 0.88**2 * cone.height, rel=0.01)
    cube = SOLIDS["cube"]
    assert volume(*blender_draw.tapered(PROFILES["square"].polygons()[0], cube.height, 1.0)) == pytest.approx(
        2 * cube.height
    )


@pytest.mark.parametrize("name", [name for name, solid in SOLIDS.items() if solid.kind == "revolve"])
def test_solids_of_revolution_have_the_outline_as_silhouette(name: str) -> None:
    outline = PROFILES[SOLIDS[name].profile].polygons()[0]
    vertices, faces = blender_draw.revolved(outline)
    assert np.abs(vertices[:, 2]).max() == pytest.approx(np.abs(outline[:, 1]).max(), abs=2e-3)
    assert np.hypot(vertices[:, 0], vertices[:, 1]).max() == pytest.approx(outline[:, 0].max(), abs=2e-3)
    assert volume(vertices, faces) > 0.5


def test_blender_knows_every_material() -> None:
    assert set(blender_draw.SURFACES) == set(MATERIALS)


def test_a_sheet_shows_both_and_says_how_they_differ(
    chosen: blender.Chosen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(tmp_path, monkeypatch)
    ours = np.stack([pixels for pixels, _ in chosen.renderer.draw(chosen.scenes, chosen.split, chosen.numbers)])
    sheet, measured = blender.make_sheet(chosen, samples=7)
    assert measured["mean absolute difference, of 255"] == pytest.approx(ours.mean())
    assert measured["seconds of one core for a picture, Blender"] == 2.0
    own = measured["seconds of one core for a picture, this renderer"]
    assert isinstance(own, float)
    assert measured["ratio"] == pytest.approx(2.0 / own)
    shown = np.asarray(sheet)[24 : 24 + 64]
    assert (shown[:, :64] == ours[0]).all()
    assert (shown[:, 64:128] == 0).all()
    assert "patterns are not drawn by Blender" in capsys.readouterr().err


def test_the_sheet_is_written_as_a_jpeg(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(tmp_path, monkeypatch)
    out = tmp_path / "sheet.jpg"
    assert blender.main(["sheet", config, str(out), "num=2"]) == 0
    with Image.open(out) as image:
        assert image.format == "JPEG"
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(out)
    assert any(line.split()[0] == "ratio" for line in lines)


def test_without_blender_one_line_says_how_to_get_it(config: str, data_gen, tmp_path: Path, monkeypatch) -> None:
    stand_in(tmp_path, monkeypatch, lacks_bpy=1)
    out = tmp_path / "sheet.jpg"
    result = data_gen.run("sheet", config, out, cwd=tmp_path, module="data_gen.render.blender")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "has no Blender" in result.stderr
    assert "pip install" in result.stderr
    assert not out.exists()
    assert not blender.available()
    monkeypatch.setenv(blender.VARIABLE, str(tmp_path / "missing"))
    with pytest.raises(InputError, match="cannot be run"):
        blender.draw({"scenes": []}, tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()


def test_a_blender_that_fails_is_named(chosen: blender.Chosen, tmp_path: Path, monkeypatch) -> None:
    stand_in(tmp_path, monkeypatch, code=3)
    with pytest.raises(InputError, match=r"BLENDER_PYTHON: Blender ended with exit code 3"):
        blender.draw(chosen.description(), tmp_path / "pictures")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sheet", "CONFIG"], "say: python -m data_gen.render.blender sheet"),
        (["paint", "CONFIG", "OUT.jpg"], "say: python -m data_gen.render.blender sheet"),
        (["sheet", "CONFIG", "OUT.png"], "let it end in .jpg"),
        (["describe", "CONFIG", "OUT.json", "split=all"], "there is no split 'all'"),
        (["describe", "CONFIG", "OUT.json", "data.style=flat", "data.concepts.shape=8"], "use clevr"),
        (["describe", "CONFIG", "OUT.json", "data.picture.clevr.min_visible=0.1"], "show every object"),
        (["describe", "CONFIG", "missing/OUT.json"], "does not exist; create it first"),
        (["draw", "missing.json", "FOLDER"], "missing.json: does not exist"),
        (["draw", "CONFIG", "FOLDER"], "is no scene description"),
    ],
)
def test_wrong_input_is_refused(
    arguments: list[str], message: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        blender.main([config if argument == "CONFIG" else argument for argument in arguments])
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 2, "scenes": [1]}', '{"format": 1, "scenes": []}', "{"])
def test_other_files_are_no_descriptions(content: str, tmp_path: Path) -> None:
    path = tmp_path / "scenes.json"
    path.write_text(content)
    with pytest.raises(InputError, match="is no scene description"):
        blender.read_description(path)


@pytest.mark.skipif(not blender.available(), reason="needs Blender: see data_gen/render/blender.py")
def test_blender_draws_the_same_picture(config: str, tmp_path: Path) -> None:
    """Camera, lights, ground, places and outlines agree: so do the pictures of matte objects, but for noise."""
    overrides = [
        "data.concepts.pattern=1",
        "data.concepts.shape=[arrow,boot]",
        "data.concepts.orientation=4",
        "data.objects={2: 1.0}",
        "data.picture.object_size=0.4",
    ]
    chosen = blender.choose(config, blender.BlenderConfig(num=4), overrides)
    drawn = chosen.renderer.render(chosen.scenes, chosen.split, int(chosen.numbers[0]))
    theirs = blender.draw(chosen.description(), tmp_path, samples=32)
    assert json.loads((tmp_path / "seconds.json").read_text())["samples"] == 32
    assert len(theirs.seconds) == 4
    difference = drawn.pixels.astype(float) - theirs.pixels
    assert abs(difference.mean()) < 4
    assert np.abs(difference[drawn.ids >= 0]).mean() < 18
