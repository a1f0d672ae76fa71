"""The house rules that a reader relies on: who imports whom, what needs torch, what the documents point to."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

BASE = {"errors", "files", "processes", "configs", "signals"}
MAY_IMPORT = {
    "scenes": set(),
    "data": {"scenes", "config"},
    "losses": set(),
    "models": set(),
    "metrics": set(),
    "config": {"scenes"},
    "report": {"analysis", "sweep"},
    "sweep": {"command", "config", "data", "report", "run"},
    "dashboard": {"command", "config", "report", "sweep"},
    "analysis": {
        *("build", "command", "data", "evaluation", "hardware", "loading"),
        *("metrics", "models", "reopen", "report", "scenes"),
    },
}
"""Room -> the other rooms of `dualenc` it may import, besides BASE and itself."""


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def files_of(room: str) -> list[Path]:
    path = ROOT / "dualenc" / room
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_they_may(room: str) -> None:
    allowed = BASE | MAY_IMPORT[room] | {room}
    for path in files_of(room):
        for name in imported(path):
            if name.startswith("dualenc."):
                assert name.split(".")[1] in allowed, f"{path} imports {name}"
            assert not name.startswith("data_gen"), f"{path} imports {name}"


def test_data_gen_knows_scenes_and_the_base_only() -> None:
    for path in (ROOT / "data_gen").rglob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] not in ("torch", "pytorch_lightning"), f"{path} imports {name}"
            if name.startswith("dualenc."):
                assert name.split(".")[1] in BASE | {"scenes"}, f"{path} imports {name}"


def test_the_trainer_never_imports_the_generator() -> None:
    for path in (ROOT / "dualenc").rglob("*.py"):
        assert not any(name.split(".")[0] == "data_gen" for name in imported(path)), path


@pytest.mark.parametrize("module", ["dualenc", "dualenc.scenes", "dualenc.config", "dualenc.data.open", "dualenc.fit"])
def test_no_torch_before_the_config_is_checked(module: str) -> None:
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'pytorch_lightning')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")) + sorted((ROOT / "configs").glob("*.md")), ids=str)
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_paths_named_in_the_readme_exist() -> None:
    for path in re.findall(
        r"`((?:configs|dualenc|data_gen|tests|slurm|benchmarks)/[\w./-]*)`", (ROOT / "README.md").read_text()
    ):
        assert (ROOT / path).exists(), f"README names {path}"
