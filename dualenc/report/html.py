"""Small pieces of HTML: escaping, tables, pictures as data URIs, and the frame of a page that loads nothing."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from dualenc.report.figures import PALETTE, Drawing
from dualenc.report.folder import data_uri

STYLE = """
:root { color-scheme: light; --ink: #1d1f23; --soft: #5b616b; --line: #dfe2e7; --wash: #f5f6f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 28px 24px 60px; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 38px 0 10px; padding-top: 10px; border-top: 1px solid var(--line); }
p { margin: 6px 0; max-width: 78ch; }
.soft, figcaption, .note { color: var(--soft); font-size: 13px; }
nav { margin: 12px 0 0; font-size: 13px; display: flex; flex-wrap: wrap; gap: 2px 14px; }
a { color: #0b5cad; text-decoration: none; }
.verdict { margin: 20px 0; padding: 12px 16px; background: var(--wash); border-left: 4px solid #0072B2; }
.verdict p { max-width: 100ch; }
.scroll { overflow-x: auto; margin: 8px 0; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: 13px; line-height: 1.25; vertical-align: bottom; border-bottom: 2px solid #9aa1ab; }
th:first-child, td:first-child, .left th, .left td { text-align: left; padding-left: 0; }
.left th, .left td { padding-left: 0; padding-right: 22px; overflow-wrap: anywhere; }
td small { display: block; color: var(--soft); font-size: 12px; line-height: 1.35; white-space: nowrap; }
td.wide { min-width: 128px; text-align: left; } td.wide small { white-space: normal; }
tr.mean td { background: var(--wash); font-weight: 600; }
.swatch { display: block; width: 26px; height: 4px; border-radius: 2px; margin: 0 0 4px auto; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 18px 22px; }
.figures.large { grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); }
figure { margin: 0; break-inside: avoid; }
figure img { width: 100%; height: auto; display: block; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); gap: 14px; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 12px; break-inside: avoid; font-size: 13.5px; }
.card img { width: 128px; height: 128px; image-rendering: pixelated; display: block; margin: 0 0 8px; }
.card dt { color: var(--soft); font-size: 12px; } .card dd { margin: 0 0 6px; }
.wrong { color: #A33B00; } .right { color: #00664B; }
.bar { width: 180px; height: 10px; background: #e8eaee; border-radius: 5px; overflow: hidden; margin-top: 6px; }
.bar span { display: block; height: 100%; background: #0072B2; }
pre { background: var(--wash); padding: 12px 14px; overflow-x: auto; font-size: 13px; line-height: 1.45;
  white-space: pre-wrap; overflow-wrap: anywhere; margin: 8px 0; }
details { margin: 10px 0; } summary { cursor: pointer; font-weight: 600; }
@media (max-width: 640px) { body { padding: 18px 14px 40px; } th, td { padding: 6px 8px; } h1 { font-size: 22px; } }
@media print { body { max-width: none; padding: 0; font-size: 11px; } nav { display: none; } h2 { break-after: avoid; }
  table, th { font-size: 10px; } td small, .note, figcaption { font-size: 8.5px; }
  th, td { padding: 3px 6px; } .scroll { overflow: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

# The policy makes "loads nothing" a fact: a browser would refuse any picture, style or script from elsewhere.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">{refresh}
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(title: str, body: str, *, style: str = "", refresh: int | None = None) -> str:
    """A whole page around `body`, which is HTML already; `title` is plain text.

    style: CSS of this page alone; refresh: seconds after which a browser loads the page again.
    """
    again = f'\n<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    return PAGE.format(title=text(title), style=STYLE + style, body=body, refresh=again)


def text(value: Any) -> str:
    """`value` as HTML text: everything that comes from a run folder goes through here."""
    return escape(str(value))


def section(heading: str, content: str, *, note: str = "") -> str:
    """A section with an anchor, or nothing where there is no content. `content` and `note` are HTML."""
    if not content:
        return ""
    explained = f'<p class="note">{note}</p>' if note else ""
    return f'<section id="{anchor(heading)}"><h2>{text(heading)}</h2>{explained}\n{content}</section>\n'


def anchor(heading: str) -> str:
    """The id of a section: its heading in lower case with dashes."""
    return "".join(c if c.isalnum() else "-" for c in heading.lower())


def contents(sections: Iterable[str], headings: Sequence[str]) -> str:
    """Links to those of `headings` whose section is not empty."""
    links = (f'<a href="#{anchor(h)}">{text(h)}</a>' for h, s in zip(headings, sections) if s)
    return f"<nav>{''.join(links)}</nav>"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """A table of cells that are HTML already; `kind` is a class, `left` for tables of words."""
    body = "\n".join(f"<tr>{''.join(c if c.startswith('<td') else f'<td>{c}</td>' for c in row)}</tr>" for row in rows)
    if not body:
        return ""
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    whole = f"<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody>"
    return f'<div class="scroll"><table class="{kind}">{whole}</table></div>'


def swatch(quantity: str, words: str) -> str:
    """A heading with the colour its quantity has in the pictures."""
    return f'<span class="swatch" style="background:{PALETTE[quantity]}"></span>{text(words)}'


def figures(drawings: Sequence[Drawing], *, large: bool = False) -> str:
    """Pictures side by side, one below the other on a phone."""
    if not drawings:
        return ""
    shown = "\n".join(
        f'<figure><img src="{data_uri(drawing.png)}" alt="{text(drawing.caption)}">'
        f"<figcaption>{text(drawing.caption)}</figcaption></figure>"
        for drawing in drawings
    )
    return f'<div class="figures{" large" if large else ""}">{shown}</div>'


def details(summary: str, content: str) -> str:
    """`content` (HTML) folded away under the plain text `summary`; nothing where there is no content."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>" if content else ""
