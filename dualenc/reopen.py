"""The data of a trained run once more, or another dataset that its model can read."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from dualenc import configs
from dualenc.build import build_source, query_settings
from dualenc.config import DataConfig, identity
from dualenc.data import Dataset, EvalBatch, QuerySettings, ShardSource, Source
from dualenc.data.open import open_data
from dualenc.data.queries import trimmed
from dualenc.errors import InputError
from dualenc.files import read_json
from dualenc.loading import LoadedModel, space_difference
from dualenc.scenes import SPLITS, Tokenizer


def reopen(loaded: LoadedModel, path: str | None = None) -> Source:
    """The data of the run (made again where `data.generate` says so), or the dataset in the folder `path`.

    InputError where the data is not what the run was trained on, or where the model cannot read the other dataset.
    """
    config = loaded.config
    if path is None:
        _check_there(config.data)
        data, found = open_data(config.data, config.model)
        if isinstance(data, Dataset):
            _check_same(loaded, data, found)
        return build_source(config, data)
    _check_readable(loaded, Dataset(Path(path)))  # before the long check of every sample
    other = replace(config.data, kind="shards", path=path, generate=None, coverage=None, seed=None, edits=[])
    dataset, _ = open_data(other, config.model)
    assert isinstance(dataset, Dataset)
    source = TranslatedSource(dataset, loaded=loaded, settings=query_settings(config))
    _check_lengths(loaded, source)
    return source


def is_own(loaded: LoadedModel, source: Source) -> bool:
    """Whether these are the data that the run was trained on, wherever they lie."""
    if not isinstance(source, ShardSource):
        return True
    return source.dataset.hash == read_json(loaded.folder / "summary.json")["dataset"]["hash"]


class TranslatedSource(ShardSource):
    """Another dataset's scenes for evaluation, with its texts in the token ids of a model's vocabulary."""

    def __init__(self, dataset: Dataset, *, loaded: LoadedModel, settings: QuerySettings) -> None:
        model, tokenizer = loaded.spec.model, Tokenizer(loaded.spec.vocabulary)
        super().__init__(dataset, scene_tower=model.scene.kind, query_tower=model.query.kind, settings=settings)
        numbers = {word: i for i, word in enumerate(tokenizer.vocabulary)}
        self._ids = np.array([numbers[word] for word in dataset.tokenizer.vocabulary], dtype=np.int64)
        self.tokenizer, self.coder = tokenizer, loaded.spec.coder

    def eval_batch(self, split: str, start: int, stop: int) -> EvalBatch:
        """See `dualenc.data.Source`."""
        batch = super().eval_batch(split, start, stop)
        if batch.texts is None:
            return batch
        captions, edits = self._ids[batch.texts.captions], self._ids[batch.texts.edits]
        return batch._replace(texts=batch.texts._replace(captions=captions, edits=edits))


def _check_there(data: DataConfig) -> None:
    """Refuses a run whose data cannot be found from this folder, before anyone is told to change its config."""
    for path in filter(None, (data.path, data.generate)):
        if not Path(path).exists():
            raise InputError(
                f"data.path: the data of this run comes from {path}, which is not here; start from the folder that the "
                "run was trained in, or give data.path=DATASET"
            )


def _check_same(loaded: LoadedModel, dataset: Dataset, found: str) -> None:
    """Refuses a dataset with another hash than the run's: summary.json has it, or, in a run without one, the hash of
    the run, which depends on it."""
    summary = loaded.folder / "summary.json"
    if summary.exists():
        trained_on = read_json(summary)["dataset"]["hash"]
        same = found == trained_on
    else:
        trained_on = "another dataset"
        same = configs.short_hash(identity(loaded.config, found)) == _run_hash(loaded.folder)
    if not same:
        raise InputError(
            f"data.path: {dataset.folder} has the hash {found}, but {loaded.folder} was trained on {trained_on}; say "
            f"data.path={dataset.folder} to use it all the same"
        )


def _run_hash(folder: Path) -> str:
    """The hash in the first line of a run's config.yaml."""
    first = (folder / "config.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# hash: ").strip()


def _check_readable(loaded: LoadedModel, dataset: Dataset) -> None:
    """Refuses a dataset with other concepts, other words, another size of pictures, or too many objects."""
    spec = loaded.spec
    if dataset.space != loaded.space:
        raise InputError(
            f"data.path: {dataset.folder} has another concept space than the model; "
            f"{space_difference(loaded.space, dataset.space)}"
        )
    if spec.model.query.kind == "text":
        unknown = [word for word in dataset.tokenizer.vocabulary if word not in set(spec.vocabulary)]
        if unknown:
            raise InputError(
                f"data.path: {dataset.folder} uses words that the model has no embedding for: {', '.join(unknown)}"
            )
    if spec.model.scene.kind == "vision" and dataset.image_size != spec.image_size:
        raise InputError(
            f"data.path: the pictures of {dataset.folder} have {dataset.image_size} pixels a side, the model sees "
            f"{spec.image_size}; make the dataset with data.picture.size={spec.image_size}"
        )
    if spec.model.scene.kind != "vision" and dataset.max_objects > spec.max_objects:
        raise InputError(
            f"data.path: {dataset.folder} has scenes of {dataset.max_objects} objects, the model reads "
            f"{spec.max_objects}; make the dataset with fewer objects"
        )


def _check_lengths(loaded: LoadedModel, source: TranslatedSource) -> None:
    """Refuses texts longer than the text tower's table of positions."""
    if loaded.spec.model.query.kind != "text":
        return
    tables = [source.dataset.table(split) for split in SPLITS]
    longest = max(trimmed(tokens).shape[-1] for table in tables for tokens in (table.tokens, table.edit_tokens))
    if longest > loaded.spec.coder.max_length:
        raise InputError(
            f"data.path: {source.dataset.folder} has texts of {longest} tokens, the model reads "
            f"{loaded.spec.coder.max_length}; make the dataset with fewer objects"
        )
