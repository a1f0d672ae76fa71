"""The HTML of the contact sheet: one string, with styles, script and pictures inside, no network."""

import base64
import json
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from dualenc.scenes import words

STATUS = {"train": "in training", "val_ood": "held out, to choose", "ood": "held out, to report"}

_ABOUT = {
    "train": "scenes of train objects, to learn from",
    "val": "fresh scenes of train objects",
    "val_ood": "scenes of the few held-out objects that a model is chosen by",
    "ood": "scenes of the other held-out objects, to report on",
    "mixed": "scenes of train and held-out objects together",
}
_PICTURE = 160  # pixels on the page, about: pictures are enlarged by a whole number


@dataclass(frozen=True)
class Shown:
    """One sample as read from a shard."""

    image: bytes
    image_format: str
    text: str
    record: dict[str, Any]
    negatives: list[dict[str, Any]]
    opposite: tuple[bytes, str] | None = None  # picture and caption
    mask: bytes | None = None


def page(description: dict[str, Any], shown: dict[str, list[Shown]]) -> str:
    """The page of a dataset: its dataset.json, and the samples to show of each split."""
    status = {i: name for name in STATUS for i in description["objects"][name]}
    title = f"{description['name']}-{description['hash']}"
    sections = [_section(description, split, samples, status) for split, samples in shown.items()]
    parts = {
        "title": escape(title),
        "style": _STYLE,
        "script": _SCRIPT,
        "lead": _lead(description),
        "matrix": _matrix(description),
        "rates": _rates(description),
        "config": escape(json.dumps(description["config"], indent=2)),
        "filters": _filters(description, list(shown)),
        "masks": _MASKS if any(sample.mask for samples in shown.values() for sample in samples) else "",
        "sections": "\n".join(sections),
        "card": 440 + 40 * min(description["max_objects"] - 2, 7),
    }
    return _PAGE.format(**parts)


def _lead(description: dict[str, Any]) -> str:
    number = sum(split["num_samples"] for split in description["splits"].values())
    side = description["picture"]["size"]
    concepts = " x ".join(f"{len(values)} {name}s" for name, values in description["concepts"].items())
    return (
        f"<b>{number:,}</b> scenes of up to <b>{description['max_objects']:d}</b> objects, pictures of "
        f"<b>{side:d} x {side:d}</b> pixels ({escape(description['picture']['format'])}). "
        f"<b>{escape(concepts)}</b> = {description['num_objects']:,} objects; training covers "
        f"<b>{description['coverage']:.1%}</b> of them ({escape(description['split_kind'])} split), "
        f"seed {escape(str(description['seed']))}, generator {escape(description['generator_version'])}."
    )


def _matrix(description: dict[str, Any]) -> str:
    """The two concepts with most values as rows and columns; a cell is coloured by the status of its objects."""
    concepts = list(description["concepts"].items())
    sizes = [len(values) for _, values in concepts]
    table = np.zeros(sizes, dtype=np.int64)
    for code, name in enumerate(STATUS):
        table.ravel()[description["objects"][name]] = code
    axes = sorted(sorted(range(len(sizes)), key=lambda k: -sizes[k])[:2])
    table = np.moveaxis(table, axes, range(len(axes))).reshape(*(sizes[k] for k in axes), -1)
    cells = table if len(axes) == 2 else table[:, None]
    names = concepts[axes[0]][1], concepts[axes[1]][1] if len(axes) == 2 else [""]
    head = "".join(f'<th class="col"><span>{escape(value)}</span></th>' for value in names[1])
    rows = [f"<tr><th></th>{head}</tr>"]
    for row, value in zip(cells, names[0]):
        drawn = "".join(_cell(f"{value} {other}".strip(), cell) for other, cell in zip(names[1], row))
        rows.append(f"<tr><th>{escape(value)}</th>{drawn}</tr>")
    legend = "".join(
        f'<span><i style="background:var(--{name})"></i>{name}: {text} ({len(description["objects"][name])})</span>'
        for name, text in STATUS.items()
    )
    depth = cells.shape[-1]
    note = (
        "" if depth == 1 else f"<p class=note>Each cell stands for {depth} objects; its colours are their shares.</p>"
    )
    return f'<table class="matrix">{"".join(rows)}</table><div class="legend">{legend}</div>{note}'


def _cell(what: str, codes: np.ndarray) -> str:
    """A cell of the matrix: as much of each status' colour as it has objects."""
    stops, told, done = [], [], 0.0
    for code, name in enumerate(STATUS):
        number = int((codes == code).sum())
        if number:
            share = 100 * number / len(codes)
            stops.append(f"var(--{name}) {done:.4g}% {done + share:.4g}%")
            told.append(name if len(codes) == 1 else f"{number} {name}")
            done += share
    title = escape(f"{what}: {', '.join(told)}")
    return f'<td style="background:linear-gradient(90deg,{",".join(stops)})" title="{title}"></td>'


def _rates(description: dict[str, Any]) -> str:
    operators = list(dict.fromkeys(op for split in description["splits"].values() for op in split["edits"]))
    further = [(what, kind) for what in ("captions", "opposites") for kind in _kinds_of(description, what)]
    head = [
        "split",
        "scenes",
        "shards",
        "objects seen",
        "pairs seen",
        "with partner",
        *(f"with {op}" for op in operators),
        *(f"{kind} {what}" for what, kind in further),
    ]
    rows = []
    for name, split in description["splits"].items():
        seen = split["coverage"]
        row = [
            f"{split['num_samples']:,}",
            f"{len(split['shards']):,}",
            f"{seen['objects_seen']:,} of {seen['objects_allowed']:,}",
            f"{seen['pairs_seen']:,} of {seen['pairs_allowed']:,}",
            f"{split['collision_rate']:.1%}",
            *(f"{split['edits'][op]['rate']:.1%}" if op in split["edits"] else "-" for op in operators),
            *(f"{split[what][kind]['rate']:.1%}" for what, kind in further),
        ]
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>")
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f'<table class="rates"><tr>{header}</tr>{"".join(rows)}</table>'


def _kinds_of(description: dict[str, Any], what: str) -> list[str]:
    """The kinds of captions or opposites that a dataset counts."""
    return list(next(iter(description["splits"].values())).get(what, {}))


def _filters(description: dict[str, Any], splits: list[str]) -> str:
    choices = [("split", "split", splits)]
    choices += [(f"value-{k}", name, values) for k, (name, values) in enumerate(description["concepts"].items())]
    selects = []
    for key, name, values in choices:
        options = "".join(f"<option>{escape(value)}</option>" for value in values)
        label = f"{escape(name)} <select data-key={key}><option value=''>any</option>{options}</select>"
        selects.append(f"<label>{label}</label>")
    return "".join(selects)


def _section(description: dict[str, Any], split: str, samples: list[Shown], status: dict[int, str]) -> str:
    number = description["splits"][split]["num_samples"]
    cards = "\n".join(_card(description, sample, status) for sample in samples)
    return (
        f'<section data-split="{escape(split)}"><h2>{escape(split)} <small>{_ABOUT.get(split, "")}; '
        f'<span class="count">{len(samples)}</span> of {number:,} shown</small></h2>'
        f'<div class="grid">{cards}</div></section>'
    )


def _card(description: dict[str, Any], sample: Shown, status: dict[int, str]) -> str:
    record, side = sample.record, description["picture"]["size"]
    width = side * max(1, round(_PICTURE / side))
    kind = {"jpg": "jpeg", "png": "png"}[sample.image_format]
    values = [" ".join(entry["concepts"][name] for entry in record["objects"]) for name in description["concepts"]]
    data = "".join(f' data-value-{k}="{escape(value)}"' for k, value in enumerate(values))
    boxes = "".join(_box(entry, side, status[entry["id"]]) for entry in record["objects"])
    partner = "" if record["partner"] is None else f'<span class="tag">partner {escape(str(record["partner"]))}</span>'
    chips = "".join(
        f'<span class="chip"><i style="background:var(--{status[e["id"]]})"></i>'
        f"{escape(' '.join(e['concepts'].values()))}</span>"
        for e in record["objects"]
    )
    negatives = "".join(_negative(edit, status) for edit in sample.negatives) or "<li class=none>no legal edit</li>"
    mask = "" if sample.mask is None else _image(sample.mask, "png", width, "mask", css="mask")
    return (
        f'<article{data}><div class="frame" style="width:{width}px">{_image(sample.image, kind, width, sample.text)}'
        f'{mask}{boxes}</div><div class="words"><p class="caption">{escape(sample.text)}</p>'
        f'<p class="chips">{chips}</p><ul>{_same(record)}{negatives}</ul></div>{_opposite(sample, kind, width)}'
        f'<details><summary><span class="tag">scene {escape(str(record["index"]))}</span>{partner}</summary>'
        f"{_table(description, record, status)}</details></article>"
    )


def _image(data: bytes, kind: str, width: int, text: str, *, css: str = "") -> str:
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    of_class = f' class="{css}"' if css else ""
    return f'<img{of_class} width={width} height={width} alt="{escape(text)}" src="{source}">'


def _same(record: dict[str, Any]) -> str:
    """What else is true of the scene: further captions by kind, and paraphrases by operator."""
    true = [(entry.get("kind", "list"), entry["text"]) for entry in record.get("captions", [])]
    true += [(entry["operator"], entry["text"]) for entry in record.get("positives", [])]
    return "".join(f'<li><span class="tag true">{escape(kind)}</span> {escape(text)}</li>' for kind, text in true)


def _opposite(sample: Shown, kind: str, width: int) -> str:
    """The opposite picture and its caption, under the sample's own."""
    if sample.opposite is None:
        return ""
    image, text = sample.opposite
    return (
        f'<div class="frame" style="width:{width}px">{_image(image, kind, width, text)}</div><div class="words">'
        f'<p class="caption">{escape(text)}</p><span class="tag opposite">{escape(sample.record["opposite"]["kind"])} '
        "opposite</span></div>"
    )


def _box(entry: dict[str, Any], side: int, status: str) -> str:
    x0, y0, x1, y1 = (100 * edge / side for edge in entry["box"])
    place = f"left:{x0:.4g}%;top:{y0:.4g}%;width:{x1 - x0:.4g}%;height:{y1 - y0:.4g}%"
    return f'<b class="box" style="{place};border-color:var(--{status})"></b>'


def _negative(edit: dict[str, Any], status: dict[int, str]) -> str:
    listed = words(edit["text"])
    opening, closing = {start for start, _ in edit["spans"]}, {stop - 1 for _, stop in edit["spans"]}
    text = ""
    for k, word in enumerate(listed):
        shown = ("<mark>" if k in opening else "") + escape(word) + ("</mark>" if k in closing else "")
        text += shown if word == "," or not text else f" {shown}"
    held_out = any(status[i] != "train" for i in edit["objects"])
    note = (
        '<span class="tag out" title="names an object that training does not show">held out</span>' if held_out else ""
    )
    css, operator = escape(edit["operator"].partition("+")[0]), escape(edit["operator"])
    twice = edit["depth"] > 1 and "+" not in edit["operator"]
    return f'<li><span class="tag {css}">{operator}{", twice" if twice else ""}</span> {text}{note}</li>'


def _table(description: dict[str, Any], record: dict[str, Any], status: dict[int, str]) -> str:
    names = list(description["concepts"])
    head = ["id", *names, "status", "x, y", "size", "pixels"]
    rows = []
    for entry in record["objects"]:
        x, y = entry["position"]
        cells = [entry["id"], *(entry["concepts"][name] for name in names), status[entry["id"]]]
        cells += [f"{x:.2f}, {y:.2f}", f"{entry['size']:.1f}", entry["visible_pixels"]]
        rows.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f'<table class="scene"><tr>{header}</tr>{"".join(rows)}</table>'


_MASKS = '<label><input type="checkbox" id="masks"> masks</label>'

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>{style}</style></head><body>
<header><h1>{title}</h1><p>{lead}</p>
<div class="overview"><div><h3>Objects</h3>{matrix}</div>
<div><h3>What the shards hold</h3>{rates}
<details><summary>Config</summary><pre>{config}</pre></details></div></div></header>
<nav><span>Show scenes with</span>{filters}<label><input type="checkbox" id="boxes"> boxes</label>
<label><input type="checkbox" id="tables"> tables</label>{masks}<span id="found"></span></nav>
<main style="--card:{card}px">{sections}</main><script>{script}</script></body></html>
"""

_STYLE = """
:root { --train: #2f7d5b; --val_ood: #e0a526; --ood: #c8452f; --ink: #1d2329; --soft: #66707a; --line: #dfe3e7; }
* { box-sizing: border-box; }
body { margin: 0; font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: #f6f7f8; }
header, main { max-width: 1500px; margin: auto; padding: 20px 28px 8px; }
h1 { font-size: 24px; margin: 0 0 4px; } h3 { font-size: 14px; margin: 0 0 8px; }
header > p { margin: 0 0 16px; max-width: 100ch; }
.overview { display: flex; flex-wrap: wrap; overflow-x: auto; gap: 20px 40px; padding: 16px 20px; background: #fff;
  border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; } th { font-weight: 500; text-align: left; }
.matrix td { width: 24px; height: 24px; border: 2px solid #fff; border-radius: 5px; }
.matrix th { color: var(--soft); padding-right: 8px; font-size: 13px; }
.matrix .col { height: 74px; padding: 0; vertical-align: bottom; }
.matrix .col span { display: block; width: 24px; padding-left: 4px; writing-mode: vertical-rl;
  transform: rotate(180deg); }
.legend { display: flex; flex-direction: column; gap: 2px; margin-top: 10px; font-size: 13px; color: var(--soft); }
.legend i, .chip i { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 6px; }
.rates th, .rates td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.rates tr:first-child th, .note { color: var(--soft); font-size: 13px; }
details summary { cursor: pointer; color: var(--soft); } .overview details { margin-top: 12px; }
pre { max-height: 320px; overflow: auto; background: #f6f7f8; padding: 12px; font-size: 12px; }
nav { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 6px 18px; align-items: center;
  padding: 9px max(28px, calc((100% - 1444px) / 2)); background: #fffffff2; border: 1px solid var(--line);
  border-width: 1px 0; }
nav span { color: var(--soft); } select { font: inherit; padding: 2px 4px; } #found { margin-left: auto; }
h2 { font-size: 18px; margin: 22px 0 10px; } h2 small { font-weight: 400; color: var(--soft); font-size: 13px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(var(--card), 100%), 1fr)); gap: 12px; }
article { display: grid; grid-template-columns: auto 1fr; gap: 4px 14px; align-content: start;
  padding: 12px; background: #fff; border: 1px solid var(--line);
  border-radius: 8px; }
.frame { position: relative; align-self: start; max-width: 220px; line-height: 0; }
.frame img { image-rendering: pixelated; border-radius: 4px; max-width: 100%; height: auto; }
.box { display: none; position: absolute; border: 2px solid; border-radius: 2px; }
article:hover .box, body.boxes .box { display: block; }
article > details { grid-column: 1 / 3; overflow-x: auto; } .words { min-width: 0; }
 .caption { margin: 0 0 4px; font-size: 15px; font-weight: 600; }
.chips { margin: 0 0 6px; display: flex; flex-wrap: wrap; gap: 2px 12px; font-size: 12px; color: var(--soft); }
.chip { white-space: nowrap; }
ul { list-style: none; margin: 0; padding: 0; font-size: 13px; } li { margin: 3px 0; }
mark { background: #ffe1a8; border-radius: 3px; padding: 0 2px; color: inherit; }
.tag { display: inline-block; padding: 0 6px; border-radius: 8px; font-size: 11px; line-height: 17px;
  background: #eceff2; color: #4b555f; }
.tag.swap { background: #e3dcfb; } .tag.replace { background: #d8ecfb; } .tag.add { background: #dcf3e2; }
.tag.spatial { background: #fbefd0; } .tag.negation { background: #f7d9ea; }
.tag.true { background: #d5f0ea; } .tag.opposite { background: #3d4650; color: #fff; }
.mask { position: absolute; inset: 0; display: none; filter: brightness(16); } body.masks .mask { display: block; }
.tag.out { margin-left: 6px; background: #fbe3dd; color: #96311f; } .none { color: var(--soft); }
summary .tag { margin-right: 6px; } .scene { margin-top: 6px; font-size: 12px; }
.scene th { color: var(--soft); } .scene th, .scene td { padding: 1px 9px 1px 0; white-space: nowrap; }
[hidden] { display: none !important; }
"""

_SCRIPT = """
const selects = [...document.querySelectorAll('nav select')];
function show() {
  let found = 0;
  const wanted = Object.fromEntries(selects.map(s => [s.dataset.key, s.value]));
  for (const section of document.querySelectorAll('section')) {
    let here = 0;
    for (const card of section.querySelectorAll('article')) {
      const fits = selects.every(s => s.dataset.key === 'split' || !s.value
        || card.getAttribute('data-' + s.dataset.key).split(' ').includes(s.value));
      card.hidden = !fits;
      here += fits;
    }
    section.querySelector('.count').textContent = here;
    section.hidden = !here || (wanted.split && section.dataset.split !== wanted.split);
    if (!section.hidden) found += here;
  }
  document.getElementById('found').textContent = found + ' scenes';
}
selects.forEach(s => s.addEventListener('change', show));
document.getElementById('boxes').addEventListener('change', e =>
  document.body.classList.toggle('boxes', e.target.checked));
document.getElementById('tables').addEventListener('change', e =>
  document.querySelectorAll('article details').forEach(d => { d.open = e.target.checked; }));
document.getElementById('masks')?.addEventListener('change', e =>
  document.body.classList.toggle('masks', e.target.checked));
show();
"""
