"""From shards, or from nothing, to batches. Only `datamodule` needs torch."""

from dualenc.data.batches import EvalBatch as EvalBatch
from dualenc.data.batches import EvalOpposites as EvalOpposites
from dualenc.data.batches import TrainBatch as TrainBatch
from dualenc.data.pairs import PairJudge as PairJudge
from dualenc.data.pools import PoolSettings as PoolSettings
from dualenc.data.shards import Dataset as Dataset
from dualenc.data.sources import EVAL_SPLITS as EVAL_SPLITS
from dualenc.data.sources import QuerySettings as QuerySettings
from dualenc.data.sources import ShardSource as ShardSource
from dualenc.data.sources import Source as Source
from dualenc.data.sources import SymbolicSource as SymbolicSource
from dualenc.data.table import EDIT_NAMES as EDIT_NAMES
