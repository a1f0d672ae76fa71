"""What a study leaves behind: STUDY.json, STUDY.md and figures, all in one folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualenc.files import atomic_write, write_json
from dualenc.report.figures import Drawing, save_all
from dualenc.report.results import markdown_table, tabulated


def write_results(
    folder: Path, study: str, described: Mapping[str, Any], result: Mapping[str, Any], drawings: Sequence[Drawing]
) -> Path:
    """Writes all of it and returns the path of the Markdown file. The JSON file of an earlier study goes first and the
    new one comes last, so that where it is, the rest is too; figures of an earlier one go with it."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in (folder / f"{study}.json", *(folder / "figures").glob(f"{study}_*")):
        old.unlink(missing_ok=True)
    named = [Drawing(f"{study}_{d.name}", d.caption, d.png, d.pdf) for d in drawings]
    save_all(named, folder / "figures")
    text = folder / f"{study}.md"
    atomic_write(text, markdown(study, described, result, named))
    figures = {drawing.name: drawing.caption for drawing in named}
    write_json(folder / f"{study}.json", {"study": study, **described, "result": result, "figures": figures})
    return text


def markdown(
    study: str, described: Mapping[str, Any], result: Mapping[str, Any], drawings: Sequence[Drawing] = ()
) -> str:
    """Notes, tables and figures of a result, for people."""
    parts = [f"# {study}", f"`{described['command']}`"]
    parts += [f"- {note}" for note in result.get("notes", [])]
    for title, rows in result.get("tables", {}).items():
        if rows:
            parts += [f"## {title}", markdown_table(*tabulated(rows))]
    parts += [f"![{drawing.caption}](figures/{drawing.name}.png)" for drawing in drawings]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ").replace("`\n- ", "`\n\n- ", 1) + "\n"
