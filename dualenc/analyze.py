"""Looks into a tower: what its embeddings of scenes are made of.

    python -m dualenc.analyze STUDY TARGET [key=value ...]

TARGET is a run folder, hf:FOLDER (a local CLIP, SigLIP or DINOv2 checkpoint; needs the extra [pretrained]), or
hf:random:clip-vit-base-patch32 (that architecture with fresh weights). An hf: target sees the pictures of data.path, or
reads texts with scenes=text. Results go to RUN/analysis, or to analysis/NAME: STUDY.json, STUDY.md and figures; a run's
report.html shows them too. Exit code 0: done; 2: bad input. `python -m dualenc.analyze STUDY --help` lists the options.
"""

import os
import re
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualenc import configs
from dualenc.analysis.checkpoints import PRETRAINED, RANDOM, RANDOM_WEIGHTS, check_checkpoint
from dualenc.analysis.studies import STUDIES, Study, StudyOptions
from dualenc.command import read_command
from dualenc.errors import EXIT_OK, InputError, run_cli
from dualenc.files import probe_folder
from dualenc.report import read_summary, write_report
from dualenc.run import check_run


def analyze(study: Study, target: str, options: StudyOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was analysed, and the study's result. Torch gets `options.threads` threads."""
    import torch

    from dualenc.analysis.targets import open_target

    torch.set_num_threads(options.threads)
    opened = open_target(target, options)
    function = study.load()
    found = function(opened.embed() if study.takes == "scenes" else opened, options)
    return opened.describe(), found


def main(argv: list[str]) -> int:
    """Analyses, writes the results and prints the path of the tables."""
    about = __doc__ or ""
    if not argv or argv[0] in ("-h", "--help"):
        listed = "\n".join(f"    {name:16}{study.about}" for name, study in STUDIES.items())
        if argv:
            print(f"{about.strip()}\n\nSTUDY is one of\n\n{listed}")
            return EXIT_OK
        raise InputError(f"STUDY: it is missing; use one of {', '.join(STUDIES)}")
    name = argv[0]
    if name not in STUDIES:
        raise InputError(f"STUDY: {name!r} is unknown; use one of {', '.join(STUDIES)}")
    study = STUDIES[name]
    (_, target), options = read_command(
        argv, study.options, names=["STUDY", "TARGET"], about=f"{about}\n{study.about}."
    )
    options.check()
    folder = check_target(target, options)
    for note in idle(target, options):
        print(note, file=sys.stderr)
    start = time.time()
    described, found = analyze(study, target, options)

    from dualenc.analysis.results import write_results

    draw = study.load("figures") if study.figures else lambda result: []
    about_run = {"target": described, **origin(options), "seconds": round(time.time() - start, 1)}
    print(write_results(folder, name, about_run, found, draw(found)))
    page = Path(target) / "report.html"
    if folder == Path(target) / "analysis" and page.exists():
        print(write_report([Path(target)]))
    return EXIT_OK


def check_target(target: str, options: StudyOptions) -> Path:
    """The folder of the results. Refuses, before torch is imported, what is no target, and a place that cannot be
    written."""
    if target.startswith(PRETRAINED):
        name = target.removeprefix(PRETRAINED)
        if not target.startswith(RANDOM_WEIGHTS):
            check_checkpoint(Path(name), pictures=options.scenes == "data")
        elif target.removeprefix(RANDOM_WEIGHTS) not in RANDOM:
            raise InputError(f"TARGET: {target} is unknown; use hf:random: with one of {', '.join(RANDOM)}")
        if options.scenes == "data" and options.data.path is None:
            raise InputError("data.path: give a dataset with pictures for the model to see, or scenes=text")
        options.check_pretrained()
        folder = Path(options.out or Path("analysis") / re.sub(r"[^\w.-]+", "-", Path(name).name))
    else:
        if options.scenes == "text":
            raise InputError("scenes: text is for hf: targets; a run is studied on scenes=data")
        check_run(Path(target), weights=options.weights)
        read_summary(Path(target), ["dataset"])
        folder = Path(options.out or Path(target) / "analysis")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"out: {folder} is a file; give a folder")
    probe_folder(folder)
    return folder


def idle(target: str, options: StudyOptions) -> list[str]:
    """A note on each option that was given and has no effect (law 8)."""
    given, pretrained, texts = StudyOptions(), target.startswith(PRETRAINED), options.scenes == "text"
    reasons = {
        "weights": pretrained and options.weights != given.weights and "an hf: target has one set of weights",
        "data.path": texts and options.data.path is not None and "scenes=text makes texts",
        "splits": texts and options.splits != given.splits and "scenes=text makes texts",
        "text": not texts and options.text != given.text and "only scenes=text reads it",
    }
    return [f"note: {key} has no effect: {reason}" for key, reason in reasons.items() if reason]


def origin(options: StudyOptions) -> Mapping[str, Any]:
    """What has to be known to get the same numbers again."""
    from importlib.metadata import version

    from dualenc.provenance import commit

    return {
        "command": shlex.join(["python", "-m", "dualenc.analyze", *sys.argv[1:]]),
        "options": configs.plain_dict(options),
        "commit": commit(),
        "versions": {name: version(name) for name in ("torch", "numpy", "dualenc")},
        "cores": os.cpu_count(),
    }


if __name__ == "__main__":
    run_cli(main, continues=False)
