"""Writes the embeddings of one split and of all queries, for analysis elsewhere.

    python -m dualenc.embed RUN SPLIT OUT [data.path=OTHER] [weights=best] [overwrite=true]

OUT.safetensors holds, as float32 [.., d] and L2-normalised: `scenes` [n, d]; `captions` [n, d] (where the query tower
reads captions); `object_queries` [|O|, d], row i for object i; `concept_queries` [V, d], all values of all concepts.
As int64: `objects` [n, m] object ids, -1 where a scene has fewer; `counts` [n]; `index` [n], the scene's number.
OUT.json holds the run, the keys of the samples and the texts, in the same order. Exit code 0: done; 2: bad input.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualenc.command import DataOptions, read_command
from dualenc.configs import field
from dualenc.errors import EXIT_OK, InputError, check_output, run_cli
from dualenc.report import read_summary
from dualenc.run import check_run
from dualenc.scenes import SPLITS

if TYPE_CHECKING:
    from torch import Tensor

    from dualenc.data import Source
    from dualenc.loading import LoadedModel

_BLOCK = 512  # scenes or texts between two movements of the progress bar


@dataclass
class EmbedOptions(DataOptions):
    """Options of `python -m dualenc.embed`."""

    overwrite: bool = field(False, "replace files that exist", identity=False)


def embed(loaded: "LoadedModel", source: "Source", split: str) -> tuple[dict[str, "Tensor"], dict[str, list[str]]]:
    """The tensors and the texts that the module's docstring lists; shows a progress bar on a terminal."""
    import torch

    from dualenc.data import ShardSource
    from dualenc.evaluation import spans

    number = source.num_samples(split)
    if not number:
        raise InputError(f"SPLIT: {split} holds no scenes; choose another of {', '.join(SPLITS)}")
    scenes, captions, objects = [], [], []
    for span in _track(f"{split} scenes", list(spans(number, _BLOCK))):
        batch = source.eval_batch(split, *span)
        scenes.append(loaded.encode_scenes(batch.inputs).cpu())
        objects.append(torch.as_tensor(batch.scenes.objects))
        if batch.texts is not None:
            captions += [source.tokenizer.decode(tokens) for tokens in batch.texts.captions.tolist()]
    grammar = loaded.grammar
    object_queries = [grammar.object_query(i) for i in range(loaded.space.num_objects)]
    texts = {"captions": captions, "object_queries": object_queries, "concept_queries": grammar.concept_queries}
    texts = {name: listed for name, listed in texts.items() if listed}
    index = source.dataset.table(split).index if isinstance(source, ShardSource) else range(number)
    tensors = {
        "scenes": torch.cat(scenes),
        **{name: _encode_texts(name, listed, loaded.encode_queries) for name, listed in texts.items()},
        "objects": torch.cat(objects),
        "counts": (torch.cat(objects) >= 0).sum(dim=1),
        "index": torch.tensor(list(index)),
    }
    return tensors, {"keys": [f"{split}-{i:08d}" for i in index], **texts}


def _encode_texts(name: str, texts: list[str], encode: "Callable[[list[str]], Tensor]") -> "Tensor":
    import torch

    starts = range(0, len(texts), _BLOCK)
    return torch.cat([encode(texts[i : i + _BLOCK]).cpu() for i in _track(name.replace("_", " "), starts)])


def _track(what: str, blocks: Sequence[Any]) -> Iterable[Any]:
    """The blocks, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(blocks, description=f"{what:16}", console=console, disable=not console.is_terminal)


def main(argv: list[str]) -> int:
    """Embeds, writes both files and prints their paths."""
    about = __doc__ or ""
    (run, split, out), options = read_command(argv, EmbedOptions, names=["RUN", "SPLIT", "OUT"], about=about)
    if split not in SPLITS:
        raise InputError(f"SPLIT: {split!r} is unknown; use one of {', '.join(SPLITS)}")
    base = out.removesuffix(".safetensors")
    files = {kind: Path(f"{base}.{kind}") for kind in ("safetensors", "json")}
    check_run(Path(run), weights=options.weights)
    read_summary(Path(run), ["dataset"])
    _check_places(files.values(), overwrite=options.overwrite)

    from dualenc import load
    from dualenc.build import describe_data
    from dualenc.files import write_json
    from dualenc.hardware import device_for_use, set_up_torch
    from dualenc.reopen import reopen
    from dualenc.weights import write_tensors

    loaded = load(run, options.weights)
    set_up_torch(loaded.config)
    source = reopen(loaded, options.data.path)
    tensors, texts = embed(loaded.to(device_for_use(loaded.config)), source, split)
    origin = {"run": loaded.folder.resolve().name, "weights": loaded.weights, "samples": loaded.samples}
    about_data = {"split": split, "dataset": describe_data(source), "logit_scale": loaded.logit_scale}
    write_json(files["json"], {**origin, **about_data, **texts}, indent=None)
    write_tensors(files["safetensors"], tensors)
    print(*files.values(), sep="\n")
    return EXIT_OK


def _check_places(files: Iterable[Path], *, overwrite: bool) -> None:
    """Refuses places that cannot be written, or that are taken, before the work is done."""
    for file in files:
        check_output(file, key="OUT")
        if file.exists() and not overwrite:
            raise InputError(f"OUT: {file} exists; choose another name, or say overwrite=true")


if __name__ == "__main__":
    run_cli(main)
