"""The shared config loader: YAML and overrides over a tree of dataclasses, and one clear line per mistake."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from dualenc import configs
from dualenc.configs import field
from dualenc.errors import InputError


@dataclass
class Term:
    weight: float = field(1.0, "weight of the term", minimum=0)
    kind: Literal["plain", "fancy"] = field("plain", "kind of the term")


@dataclass
class Picture:
    size: int = field(32, "side in pixels", minimum=8, maximum=1024)
    format: Literal["jpg", "png"] = field("jpg", "file format")
    background: tuple[float, float] = field((0.8, 0.9), "range of grey", minimum=0, maximum=1)


@dataclass
class Data:
    out: str | None = field(None, "folder", identity=False)
    objects: dict[int, float] = field({2: 1.0}, "distribution of counts", above=0)
    concepts: dict[str, int | list[str]] = field({"color": 8}, "concepts")
    picture: Picture = field(Picture, "pictures")
    coverage: float = field(0.5, "share of objects", above=0, maximum=1)
    exact: bool = field(True, "a switch")
    decay: tuple[float, float] = field((0.9, 0.98), "rates", minimum=0, below=1)
    name: str = field("data", "name", pattern="[A-Za-z][a-z0-9-]{0,9}", expected="a letter, then letters, digits or -")
    tags: list[str] = field([], "labels", pattern="[a-z]+")


@dataclass
class Root:
    data: Data = field(Data, "dataset")
    terms: dict[str, Term] = field({"first": Term()}, "terms by name")
    paths: Term = field(Term, "an unhashed subtree", identity=False)


def test_defaults_then_base_then_file_then_overrides(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("data: {picture: {size: 64, format: png}, coverage: 0.1}\n")
    (tmp_path / "child.yaml").write_text("base: base.yaml\ndata: {coverage: 0.2, objects: {3: 1}}\n")
    config = configs.load(Root, tmp_path / "child.yaml", ["data.coverage=3e-1", "data.out=a=b"])
    assert config.data.picture == Picture(size=64, format="png")
    assert config.data.coverage == 0.3
    assert config.data.objects == {3: 1.0}, "a file replaces a free mapping as a whole"
    assert config.data.out == "a=b"
    assert config.data.exact is True


def test_overrides_reach_into_free_mappings() -> None:
    config = configs.load(
        Root, None, ["data.objects.4=0.5", "data.concepts.shape=[disc, bar]", "terms.second.weight=2", "data.out="]
    )
    assert config.data.objects == {2: 1.0, 4: 0.5}
    assert config.data.concepts == {"color": 8, "shape": ["disc", "bar"]}
    assert config.terms == {"first": Term(), "second": Term(weight=2.0)}
    assert config.data.out is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.pictur.size=3", "data.pictur: unknown key; did you mean data.picture"),
        ("data.size=3", "data.size: unknown key; did you mean data.picture.size"),
        ("dta.coverage=3", "dta: unknown key; did you mean data"),
        ("zzz=3", "zzz: unknown key; known keys are data, terms, paths"),
        ("data.coverage=many", "data.coverage: 'many' is not valid; expected float"),
        ("data.coverage=1.3", "data.coverage: 1.3 is out of range; give a number above 0 and at most 1"),
        ("data.coverage=0", "data.coverage: 0.0 is out of range; give a number above 0 and at most 1"),
        ("data.coverage=.nan", "data.coverage: nan is out of range; give a number above 0 and at most 1"),
        ("data.coverage=null", "data.coverage: null is not valid; expected float"),
        ("data.picture.size=3.5", "data.picture.size: 3.5 is not valid; expected int"),
        ("data.picture.size=true", "data.picture.size: true is not valid; expected int"),
        ("data.picture.format=gif", "data.picture.format: 'gif' is not valid; expected jpg | png"),
        ("data.picture.background=[1]", "data.picture.background: [1] is not valid; expected [float, float]"),
        (
            "data.picture.background=[0, 2]",
            "data.picture.background: 2.0 is out of range; give a number from 0 to 1",
        ),
        ("data.picture=3", "data.picture: 3 is not valid; expected keys size, format, background"),
        ("data.picture.size.big=3", "data.picture.size.big: unknown key; data.picture.size is int"),
        ("data.objects.two=1", "data.objects: {2: 1.0, two: 1} is not valid; expected {int: float}"),
        ("data.objects.3=-1", "data.objects.3: -1.0 is out of range; give a number above 0"),
        (
            "data.concepts.color.red=1",
            "data.concepts.color.red: unknown key; it reaches into a value, not into a mapping",
        ),
        ("data.out=[1", "data.out: cannot read the value '[1': line 2: did not find expected ',' or ']'"),
        (
            "data.out=${oc.env:HOME}",
            "data.out: holds ${...}, which would read this machine's settings into the run; write the value itself",
        ),
        ("data.concepts={color: [red, '${x}']}", "data.concepts: holds ${...}, which would read this machine's"),
        ("data.out=${", "data.out: holds ${...}, which would read this machine's settings"),
        ("data.decay=[0.9, 1]", "data.decay: 1.0 is out of range; give a number at least 0 and below 1"),
        ("data.name=a/b", "data.name: 'a/b' is not valid; give a letter, then letters, digits or -"),
        ("data.name=", "data.name: null is not valid; expected str"),
        ('data.name="data\\n"', "data.name: 'data\\n' is not valid; give a letter"),
        ("data.name=abcdefghijk", "data.name: 'abcdefghijk' is not valid; give a letter"),
        ("data.tags=[a, B]", "data.tags: 'B' is not valid; give [a-z]+"),
        ("data.out=???", "data.out: is required; give it a value"),
        ("data.out", "data.out: expected key=value"),
        ("terms.first.weightt=2", "terms.first.weightt: unknown key; did you mean terms.first.weight"),
        ("terms.first.weight=-1", "terms.first.weight: -1.0 is out of range; give a number at least 0"),
        ("terms.first=3", "terms.first: 3 is not valid; expected keys weight, kind"),
    ],
)
def test_a_wrong_override_is_one_line_with_the_full_key(override: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        configs.load(Root, None, [override])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: [1", "not valid YAML: line 2: did not find expected ',' or ']'"),
        ("data: {coverage: .5, coverage: .3}", "not valid YAML: line 1: found duplicate key coverage"),
        ("- 1", "expected a mapping of keys to values"),
        ("3", "it holds no mapping of keys to values"),
        ("data: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
        ("base: absent.yaml", "absent.yaml: no such config file"),
        ("base: [a, b]", "expected the path of a YAML file relative to it"),
        ("base: grandchild.yaml", "has a base itself; inherit one level deep only"),
        ("1: 2", "1: unknown key; known keys are data, terms, paths"),
        ("data: {concepts: {color: [red, '${oc.env:HOME}']}}", "data.concepts.color.1: holds ${...}"),
        ("terms: {first: {kind: '${paths.kind}'}}", "terms.first.kind: holds ${...}"),
        ("data: {out: '${oops'}", "data.out: in "),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "grandchild.yaml").write_text("base: other.yaml")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        configs.load(Root, tmp_path / "config.yaml")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nope\.yaml: no such config file"):
        configs.load(Root, tmp_path / "nope.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        configs.load(Root, tmp_path)


def test_every_leaf_is_in_one_class_and_only_identity_changes_the_hash() -> None:
    assert configs.leaf_keys(Root) == {
        "data.out": False,
        "data.objects": True,
        "data.concepts": True,
        "data.picture.size": True,
        "data.picture.format": True,
        "data.picture.background": True,
        "data.coverage": True,
        "data.exact": True,
        "data.decay": True,
        "data.name": True,
        "data.tags": True,
        "terms": True,
        "paths.weight": False,
        "paths.kind": False,
    }

    def hash_of(*overrides: str) -> str:
        return configs.short_hash(configs.identity_dict(configs.load(Root, None, overrides)))

    assert hash_of() == hash_of("data.out=elsewhere", "paths.weight=7")
    others = [hash_of("data.objects={3: 1}"), hash_of("terms.first.weight=2"), hash_of("data.picture.size=64")]
    assert len({hash_of(), *others}) == 4
    assert len(hash_of()) == 10


def test_the_yaml_of_a_config_reads_back_equal(tmp_path: Path) -> None:
    config = configs.load(Root, None, ["data.objects={1: 0.3, 5: 0.7}", "data.picture.background=[0, 1]"])
    (tmp_path / "config.yaml").write_text(configs.to_yaml(config))
    assert configs.load(Root, tmp_path / "config.yaml") == config


def test_help_lists_every_key_with_type_default_and_help() -> None:
    lines = configs.help_text(Root).splitlines()
    by_key = {key: line for line in lines for key in configs.leaf_keys(Root) if f" {key} " in line}
    assert set(by_key) == set(configs.leaf_keys(Root))
    assert "int = 32" in by_key["data.picture.size"]
    assert "side in pixels (from 8 to 1024)" in by_key["data.picture.size"]
    assert "rates (at least 0 and below 1)" in by_key["data.decay"]
    assert "str or null = null" in by_key["data.out"]
    assert by_key["data.coverage"].startswith("  * ")
    assert by_key["data.out"].startswith("    data.out")
