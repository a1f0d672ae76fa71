"""Configs are YAML files over one tree of dataclasses, loaded with OmegaConf; every mistake is one line.

A tree declares its fields with `field(default, help)`, which also says whether a field is part of the
identity (does it change the result?) and which numbers it admits. `load` reads a YAML file (with one level
of `base:` inheritance) and `key=value` overrides into an instance; whatever is wrong ends in an `InputError`
that names the full key and the fix.

    @dataclass
    class Root:
        data: DataConfig = field(DataConfig, "the dataset")

    config = load(Root, Path("configs/data/flat.yaml"), ["data.seed=3"])
"""

import copy
import dataclasses
import difflib
import functools
import hashlib
import json
import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, MissingMandatoryValue, OmegaConfBaseException

from dualenc.errors import InputError

T = TypeVar("T")

BOUNDS = ("minimum", "maximum", "above", "below")

BASE_KEY = "base"
WANDB_PROJECT = r"[^/\\#?%:]{1,128}"  # the project names that wandb takes


def field(
    default: Any,
    help: str,
    *,
    identity: bool = True,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    pattern: str | None = None,
    expected: str | None = None,
) -> Any:
    """A dataclass field with one line of help.

    `default` is a plain value (lists and dicts are copied per instance) or a dataclass: a subtree.
    `identity=False` marks a field (or a whole subtree) that does not change the result and is left out of the
    hash. `minimum` and `maximum` are inclusive bounds of a number, `above` and `below` exclusive ones. `pattern` is a
    regular expression that a text must match as a whole, `expected` says in words what that is ("letters and digits").
    """
    bounds = {"minimum": minimum, "maximum": maximum, "above": above, "below": below}
    metadata = {"help": help, "identity": identity, **bounds, "pattern": pattern, "expected": expected}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def load(
    cls: type[T],
    path: Path | str | None,
    overrides: Sequence[str] = (),
    *,
    defaults: Mapping[str, Any] | None = None,
) -> T:
    """An instance of the dataclass tree `cls`: defaults, then the YAML file's base, the file, `key=value`s.

    `defaults` come before the file, over the tree's own. A file or `key={...}` replaces a mapping with free keys as a
    whole; `key.name=value` sets one entry.

    Raises:
        InputError: unreadable file, unknown key, wrong type, number out of range, text that its pattern does not
            admit, `${...}` (a config means the same everywhere); one line with key and fix.
    """
    config = copy.deepcopy(_template(cls))  # type: ignore[arg-type]  # mypy: no class is hashable
    if defaults is not None:
        _merge(config, cls, defaults, "", root=cls)
    if path is not None:
        for layer in _read_layers(Path(path)):
            _merge(config, cls, layer, "", root=cls)
    for override in overrides:
        _override(config, cls, override)
    try:
        obj = OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key}: is required; give it a value") from None
    except OmegaConfBaseException as error:
        raise InputError(f"{error.full_key}: {_first_line(error)}") from None
    assert isinstance(obj, cls)
    check_ranges(obj)
    return obj


def check_ranges(obj: Any) -> None:
    """InputError names the first number or text of a tree that its field does not admit; types are taken as right."""
    _check_values(obj, "")


def has_type(value: Any, kind: Any) -> bool:
    """Whether a plain value is of a leaf's type as it stands; False where `load` would convert or refuse it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(has_type(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    return kind in (int, float, bool, str, type(None)) and type(value) is kind


@functools.cache
def _template(cls: type) -> DictConfig:
    """The tree with its defaults; making it takes four times as long as copying it, and a sweep loads often."""
    return OmegaConf.structured(cls)


def leaves(cls: type, prefix: str = "", identity: bool = True) -> Iterator[tuple[str, Any, Any, bool]]:
    """All leaves of a tree in order of declaration: full key, dataclass field, its type, whether identity."""
    hints = get_type_hints(cls)
    for item in dataclasses.fields(cls):
        key, kind = prefix + item.name, hints[item.name]
        is_identity = identity and item.metadata.get("identity", True)
        if dataclasses.is_dataclass(kind):
            yield from leaves(kind, key + ".", is_identity)  # type: ignore[arg-type]
        else:
            yield key, item, kind, is_identity


def leaf_keys(cls: type) -> dict[str, bool]:
    """Full key of every leaf of the tree -> whether it is part of the identity."""
    return {key: identity for key, _, _, identity in leaves(cls)}


def identity_dict(obj: Any) -> dict[str, Any]:
    """The identity fields of an instance as nested plain values, ready for JSON."""
    return {
        item.name: _plain(getattr(obj, item.name), identity_only=True)
        for item in dataclasses.fields(obj)
        if item.metadata.get("identity", True)
    }


def plain_dict(obj: Any) -> dict[str, Any]:
    """All fields of an instance as nested plain values, ready for JSON."""
    return {item.name: _plain(getattr(obj, item.name), identity_only=False) for item in dataclasses.fields(obj)}


def short_hash(value: Any) -> str:
    """First 10 hex digits of the SHA-256 of the canonical JSON of `value` (sorted keys, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def to_yaml(obj: Any) -> str:
    """The resolved tree as YAML, which `load` reads back into an equal instance."""
    return OmegaConf.to_yaml(OmegaConf.structured(obj))


def help_text(cls: type) -> str:
    """The tree as text: one line per key with type, default, admitted range and help; `*` marks identity."""
    rows = []
    for key, item, kind, identity in leaves(cls):
        default = item.default_factory() if item.default is dataclasses.MISSING else item.default
        shown = f"{type_name(kind)} = {_show(default)}"
        allowed = _range_text(item.metadata)
        rows.append(
            (
                key,
                "*" if identity else " ",
                shown,
                item.metadata["help"] + (f" ({allowed})" if allowed else ""),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    widths[2] = min(widths[2], 46)
    lines = [f"  {row[1]} {row[0]:{widths[0]}}  {row[2]:{widths[2]}}  {row[3]}" for row in rows]
    if any(identity for *_, identity in leaves(cls)):
        lines += ["", "  * part of the identity: another value gives another hash"]
    return "\n".join(lines)


def type_name(kind: Any) -> str:
    """A type as a user reads it: `int or null`, `jpg | png`, `list of str`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is type(None):
        return "null"
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(argument) for argument in arguments)
    if origin is Literal:
        return " | ".join(str(argument) for argument in arguments)
    if origin is list:
        return f"list of {type_name(arguments[0])}"
    if origin is tuple:
        return "[" + ", ".join(type_name(argument) for argument in arguments) + "]"
    if origin is dict:
        return f"{{{type_name(arguments[0])}: {type_name(arguments[1])}}}"
    if dataclasses.is_dataclass(kind):
        return "keys " + ", ".join(item.name for item in dataclasses.fields(kind))
    return "any" if kind is Any else kind.__name__


# --- reading ---------------------------------------------------------------------------------------------


def _read_layers(path: Path) -> list[dict[str, Any]]:
    """The file's mapping, preceded by its base's when it names one."""
    mapping = read_yaml(path)
    base = mapping.pop(BASE_KEY, None)
    if base is None:
        return [mapping]
    if not isinstance(base, str):
        raise InputError(f"{BASE_KEY}: in {path}: expected the path of a YAML file relative to it, got {base!r}")
    parent = read_yaml(path.parent / base)
    if BASE_KEY in parent:
        raise InputError(f"{BASE_KEY}: {path.parent / base} has a base itself; inherit one level deep only")
    return [parent, mapping]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file as it is written, nothing looked up. InputError where it cannot be read."""
    try:
        config = OmegaConf.load(path)
        mapping = OmegaConf.to_container(config, resolve=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file; give the path of a YAML file") from None
    except GrammarParseError as error:
        raise InputError(f"{error.full_key}: in {path}: {_NO_INTERPOLATION}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise InputError(f"{path}: not valid YAML: {_yaml_problem(error)}") from None
    except OSError as error:
        reason = error.strerror or "it holds no mapping of keys to values"
        raise InputError(f"{path}: cannot read it as a config: {reason}; give the path of a YAML file") from None
    if not isinstance(mapping, dict):
        raise InputError(f"{path}: expected a mapping of keys to values")
    return mapping  # type: ignore[return-value]


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark is not None else ""
    return where + (getattr(error, "problem", None) or _first_line(error))


def _merge(node: DictConfig, cls: type, layer: Mapping[Any, Any], prefix: str, *, root: type) -> None:
    """Sets the keys of `layer` in `node`, the part of the tree at `prefix` with dataclass `cls`."""
    hints = get_type_hints(cls)
    for name, value in layer.items():
        if name not in hints:
            raise InputError(_unknown_key(f"{prefix}{name}", prefix, list(hints), root))
        _set(node, name, value, hints[name], prefix, root=root)


def _set(node: DictConfig, name: str, value: Any, kind: Any, prefix: str, *, root: type) -> None:
    key = f"{prefix}{name}"
    _refuse_interpolation(key, value)
    entry_kind = get_args(kind)[1] if get_origin(kind) is dict else None
    try:
        if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            _merge(node[name], kind, value, f"{key}.", root=root)  # type: ignore[arg-type]
        elif dataclasses.is_dataclass(entry_kind) and isinstance(value, Mapping):
            entries = {}
            for entry_name, entry in value.items():
                if not isinstance(entry, Mapping):
                    raise InputError(_invalid(f"{key}.{entry_name}", entry, entry_kind))
                entries[entry_name] = OmegaConf.structured(entry_kind)
                _merge(entries[entry_name], entry_kind, entry, f"{key}.{entry_name}.", root=root)  # type: ignore
            OmegaConf.update(node, name, entries, merge=False)
        else:
            OmegaConf.update(node, name, value, merge=False)
    except OmegaConfBaseException:
        raise InputError(_invalid(key, value, kind)) from None


def _override(config: DictConfig, cls: type, override: str) -> None:
    """Sets what one `key=value` says, where the key may reach into a mapping with free keys."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override}: expected key=value")
    _refuse_interpolation(key, text)
    try:
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]  # type: ignore
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{key}: cannot read the value {text!r}: {_yaml_problem(error)}") from None
    node, here, prefix = config, cls, ""
    name, *rest = key.split(".")
    while rest and dataclasses.is_dataclass(kind := get_type_hints(here).get(name)):
        node, here, prefix = node[name], kind, f"{prefix}{name}."  # type: ignore[assignment]
        name, *rest = rest
    if rest and name in get_type_hints(here):
        value = _with_entry(node[name], get_type_hints(here)[name], rest, value, key)
    _merge(node, here, {name: value}, prefix, root=cls)


def _with_entry(node: Any, kind: Any, rest: list[str], value: Any, key: str) -> dict[Any, Any]:
    """The free mapping `node` as plain values, in which the entry at the path `rest` is `value`."""
    if get_origin(kind) is not dict:
        raise InputError(f"{key}: unknown key; {key.removesuffix('.' + '.'.join(rest))} is {type_name(kind)}")
    mapping = OmegaConf.to_container(node, resolve=False)
    inner: Any = mapping
    first = int(rest[0]) if get_args(kind)[0] is int and rest[0].isdecimal() else rest[0]
    *path, last = [first, *rest[1:]]
    for name in path:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InputError(f"{key}: unknown key; it reaches into a value, not into a mapping")
    inner[last] = value
    return mapping  # type: ignore[return-value]


_NO_INTERPOLATION = "holds ${...}, which would read this machine's settings into the run; write the value itself"


def _refuse_interpolation(key: str, value: Any) -> None:
    """Refuses `${...}` in a value, and anywhere inside it: an environment must not leak into a run."""
    if isinstance(value, str) and "${" in value:
        raise InputError(f"{key}: {_NO_INTERPOLATION}")
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in inner:
        _refuse_interpolation(f"{key}.{name}", entry)


def _invalid(key: str, value: Any, kind: Any) -> str:
    return f"{key}: {_show(value)} is not valid; expected {type_name(kind)}"


def _unknown_key(key: str, prefix: str, siblings: list[str], root: type) -> str:
    name = key.removeprefix(prefix)
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    if close:
        return f"{key}: unknown key; did you mean {prefix}{close[0]}"
    leaves_by_name: dict[str, str] = {}
    for leaf in leaf_keys(root):
        leaves_by_name.setdefault(leaf.rsplit(".", 1)[-1], leaf)
    elsewhere = difflib.get_close_matches(name, leaves_by_name, n=1, cutoff=0.7)
    if elsewhere:
        return f"{key}: unknown key; did you mean {leaves_by_name[elsewhere[0]]}"
    return f"{key}: unknown key; known keys are {', '.join(prefix + sibling for sibling in siblings)}"


# --- checking and showing --------------------------------------------------------------------------------


def _check_values(obj: Any, prefix: str) -> None:
    for item in dataclasses.fields(obj):
        key, value = prefix + item.name, getattr(obj, item.name)
        if dataclasses.is_dataclass(value):
            _check_values(value, key + ".")
            continue
        entries = value.items() if isinstance(value, dict) else [(None, value)]
        for name, entry in entries:
            if dataclasses.is_dataclass(entry):
                _check_values(entry, f"{key}.{name}.")
            for single in entry if isinstance(entry, (list, tuple)) else [entry]:
                full_key = key if name is None else f"{key}.{name}"
                if isinstance(single, (int, float)) and not isinstance(single, bool):
                    _check_number(full_key, single, item.metadata)
                elif isinstance(single, str):
                    _check_text(full_key, single, item.metadata)


def _check_number(key: str, number: float, metadata: Mapping[str, Any]) -> None:
    minimum, maximum, above, below = (metadata.get(bound) for bound in BOUNDS)
    inside = (
        math.isfinite(number)
        and (minimum is None or number >= minimum)
        and (maximum is None or number <= maximum)
        and (above is None or number > above)
        and (below is None or number < below)
    )
    if not inside:
        raise InputError(f"{key}: {number} is out of range; give a number {_range_text(metadata) or 'that is finite'}")


def _check_text(key: str, text: str, metadata: Mapping[str, Any]) -> None:
    pattern = metadata.get("pattern")
    if pattern is not None and not re.fullmatch(pattern, text):
        raise InputError(f"{key}: {_show(text)} is not valid; give {metadata['expected'] or pattern}")


def _range_text(metadata: Mapping[str, Any]) -> str:
    """What the metadata of a field admits, in words."""
    minimum, maximum, above, below = (metadata.get(bound) for bound in BOUNDS)
    if minimum is not None and maximum is not None:
        return f"from {minimum} to {maximum}"
    parts = [("at least", minimum), ("above", above), ("at most", maximum), ("below", below)]
    return " and ".join(f"{word} {bound}" for word, bound in parts if bound is not None)


def _plain(value: Any, *, identity_only: bool) -> Any:
    if dataclasses.is_dataclass(value):
        return identity_dict(value) if identity_only else plain_dict(value)
    if isinstance(value, dict):
        return {str(name): _plain(entry, identity_only=identity_only) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, identity_only=identity_only) for entry in value]
    return value


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_show(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_show(entry)}" for name, entry in value.items()) + "}"
    if dataclasses.is_dataclass(value):
        return _show(plain_dict(value))
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
