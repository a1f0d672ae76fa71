"""A full training step at the default size beside open_clip's, and beside bare matrix products.

    python benchmarks/step.py [--peers PYTHON] [--batch N] [--threads N] [--quick] [--json PATH]

Ours: two towers of preset base (64 px in patches of 8; captions of 12 to 24 words and their end), InfoNCE, gradient
norm, AdamW, as training does them. PYTHON is the interpreter of an environment with open_clip, which needs another
torch than dualenc:

    python -m venv PEERS && PEERS/bin/pip install open_clip_torch==3.3.0 torchvision
    python benchmarks/step.py --peers PEERS/bin/python

There its own model, loss and optimiser make steps as its training script does, with the same widths, depths, heads,
batch and precision: `open_clip_77` reads 77 tokens of 49,408 words, `open_clip_25` the 25 tokens and the vocabulary
that ours has. Rounds alternate. With one thread, seconds are CPU time, which other work on the machine disturbs
little; with more, they are on the clock. Both precisions are measured where the CPU multiplies bfloat16, else float32
alone. The bound is the time that the step's counted operations take at the rate of its largest matrix product, and
`of_bound_ratio` the share of it that the step reaches.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from common import report
from torch.profiler import ProfilerActivity, profile

from dualenc.config import PRESETS, Config
from dualenc.hardware import set_up_torch
from dualenc.losses import info_nce
from dualenc.models import CompiledEncoder, DualEncoder, TextTower, VisionTower, embedded_flops, parameter_groups
from dualenc.precision import multiplies_bf16

PICTURE = {"image_size": 64, "patch_size": 8}
VOCABULARY, LENGTH = 200, 25
AT_LEAST = {"open_clip_77_ratio": 3.0, "open_clip_25_ratio": 1.5, "of_bound_ratio": 0.6}
AMX_GFLOPS = 1000  # at the least, in bf16-mixed
KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm"),
    "attention": ("_scaled_dot_product", "softmax"),
    "GELU": ("gelu",),
    "LayerNorm": ("native_layer_norm",),
    "AdamW": ("_fused_adamw",),
    "copies and casts": ("copy_", "cat", "index_select", "index_add", "clone"),
    "sums and norms": ("sum", "linalg_vector_norm"),
}


class Step:
    """One training step on random pictures and captions, again and again."""

    def __init__(self, *, batch: int, precision: str, compile: bool = False) -> None:
        torch.manual_seed(0)
        sizes = PRESETS["base"]
        vision = VisionTower(**PICTURE, **sizes)
        self.model = DualEncoder(vision, TextTower(VOCABULARY, max_length=32, readout="mean", **sizes))
        self.encoder = CompiledEncoder(self.model) if compile else self.model
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, 0.1), lr=1e-4, betas=(0.9, 0.98), fused=True)
        self.bf16 = precision == "bf16-mixed"
        self.pictures = torch.randint(256, (batch, 64, 64, 3)).to(torch.uint8)
        self.captions = torch.randint(1, VOCABULARY, (batch, LENGTH))
        for row, caption in enumerate(self.captions):
            caption[12 + row % 13 + 1 :] = 0

    def __call__(self) -> None:
        """As `dualenc.module` does it."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16) if self.bf16 else nullcontext():
            scene, query = self.encoder.encode_scenes(self.pictures), self.encoder.encode_queries(self.captions)
            loss = info_nce(scene, query, logit_scale=self.model.logit_scale)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.model.clamp_()

    @property
    def flops(self) -> int:
        """Operations of a step, of the tokens that are no padding."""
        return embedded_flops(self.model, self.pictures, self.captions)


class Peer:
    """open_clip in its own interpreter, one step at a time."""

    def __init__(self, python: str, **settings: Any) -> None:
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("open_clip_step.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(settings["threads"])},
        )
        self.versions = self._ask(settings)

    def _ask(self, message: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def seconds(self, clock: str) -> float:
        """Those of one step."""
        return self._ask("step")[clock]

    def end(self) -> None:
        """Lets the process go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def timed(work: Callable[[], object], clock: str) -> float:
    """Seconds of one call."""
    now = time.process_time if clock == "cpu" else time.perf_counter
    start = now()
    work()
    return now() - start


def product(rows: int, precision: str) -> tuple[Callable[[], object], int]:
    """The widest product of a block over all tokens of the scenes, and its operations."""
    width = PRESETS["base"]["width"]
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    x, weight = torch.randn(rows, width).to(dtype), torch.randn(4 * width, width).to(dtype)
    return lambda: x @ weight.T, 2 * rows * width * 4 * width


def measure(precision: str, chosen: argparse.Namespace) -> dict[str, float]:
    """All figures of one precision; rounds of ours, the peers' and bare products alternate, a first one is left out."""
    clock = "cpu" if chosen.threads == 1 else "clock"
    ours, compiled = Step(batch=chosen.batch, precision=precision), None
    if chosen.compile:
        compiled = Step(batch=chosen.batch, precision=precision, compile=True)
    multiply, operations = product(64 * chosen.batch, precision)
    peers = open_peers(precision, chosen)
    works: dict[str, Callable[[], float]] = {
        "ours": lambda: timed(ours, clock),
        "product": lambda: timed(multiply, clock),
        **({"compiled": lambda: timed(compiled, clock)} if compiled else {}),
        **{name: lambda peer=peer: peer.seconds(clock) for name, peer in peers.items()},  # type: ignore[misc]
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(chosen.rounds + 1):
        for name in list(works)[:: 1 if number % 2 else -1]:
            took = works[name]()
            if number:
                seconds[name].append(took)
    for peer in peers.values():
        peer.end()
    rate = operations / statistics.median(seconds.pop("product"))
    found = {f"{name}_samples_per_s": chosen.batch / statistics.median(taken) for name, taken in seconds.items()}
    for name in [name for name in seconds if name != "ours"]:
        pairs = zip(seconds["ours"], seconds[name])
        found[f"{name}_ratio"] = statistics.median(theirs / own for own, theirs in pairs)
    reached = ours.flops / statistics.median(seconds["ours"])
    found |= {"step_gflop": ours.flops / 1e9, "gflops": reached / 1e9, "product_gflops": rate / 1e9}
    found["of_bound_ratio"] = reached / rate
    found |= {f"share/{kind}": share for kind, share in shares(ours).items()}
    return {f"{precision}/{name}": value for name, value in found.items()}


def open_peers(precision: str, chosen: argparse.Namespace) -> dict[str, Peer]:
    """Both of open_clip's configurations, waiting; none without its interpreter."""
    if chosen.peers is None:
        return {}
    common = {**PRESETS["base"], **PICTURE, "batch": chosen.batch, "threads": chosen.threads, "precision": precision}
    peers = {
        "open_clip_77": Peer(chosen.peers, **common, context_length=77, vocabulary=49408),
        f"open_clip_{LENGTH}": Peer(chosen.peers, **common, context_length=LENGTH, vocabulary=VOCABULARY),
    }
    print(f"peers: {peers['open_clip_77'].versions}; ours: torch {torch.__version__}")
    return peers


def shares(step: Step) -> dict[str, float]:
    """Shares of one step's time by kind of operation, as torch's profiler sees it."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    taken = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in profiler.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, starts in KINDS.items() if _is_of(name, starts)), "the rest")
        taken[kind] += event.self_cpu_time_total
    total = sum(taken.values())
    return {kind: value / total for kind, value in taken.items()}


def _is_of(name: str, starts: tuple[str, ...]) -> bool:
    return any(name == start or (len(start) > 4 and name.lstrip("_").startswith(start.lstrip("_"))) for start in starts)


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter with open_clip; without it, ours alone")
    parser.add_argument("--batch", type=int, help="samples of a step (64; --quick: 16)")
    parser.add_argument("--threads", type=int, default=1, help="of every side; 1 counts CPU seconds")
    parser.add_argument("--rounds", type=int, help="that count (5; --quick: 3)")
    parser.add_argument("--compile", action="store_true", help="ours compiled too")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer steps")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file too")
    chosen = parser.parse_args()
    chosen.batch = chosen.batch or (16 if chosen.quick else 64)
    chosen.rounds = chosen.rounds or (3 if chosen.quick else 5)
    config = Config()
    config.trainer.threads = chosen.threads
    set_up_torch(config)
    if chosen.peers is None:
        print("without --peers PYTHON, open_clip's steps are left out; how to get them: --help")
    precisions = ["32-true"] + ["bf16-mixed"] * multiplies_bf16()
    if len(precisions) == 1:
        print("this CPU cannot multiply bfloat16 (AMX or AVX512-BF16), so bf16-mixed is left out")
    found: dict[str, float] = {}
    for precision in precisions:
        found |= measure(precision, chosen)
    limits = {f"{precision}/{name}": value for precision in precisions for name, value in AT_LEAST.items()}
    report(found, chosen.json, at_least={**limits, "bf16-mixed/gflops": AMX_GFLOPS})


if __name__ == "__main__":
    main()
