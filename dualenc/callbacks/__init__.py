"""Callbacks call metrics, log and save, nothing more. Their order is the order at a step: measure, log, save."""

from dualenc.callbacks.binding import BindingCallback as BindingCallback
from dualenc.callbacks.checkpoint import AtomicCheckpointIO as AtomicCheckpointIO
from dualenc.callbacks.checkpoint import CheckpointCallback as CheckpointCallback
from dualenc.callbacks.coverage import CoverageCallback as CoverageCallback
from dualenc.callbacks.geometry import GeometryCallback as GeometryCallback
from dualenc.callbacks.log import LogCallback as LogCallback
from dualenc.callbacks.pairs import ValPairs as ValPairs
from dualenc.callbacks.spectrum import SpectrumCallback as SpectrumCallback
from dualenc.callbacks.throughput import ThroughputCallback as ThroughputCallback
