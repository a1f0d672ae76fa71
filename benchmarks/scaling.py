"""What the losses send and hold on each rank at up to 1,024 ranks, and what a model of 2 x 20M needs there on paper.

    python benchmarks/scaling.py [--quick] [--json PATH]

Counted: every loss of the registry runs forward and backward on rank 0 of a world that torch's fake process group
pretends. No value of it means anything; shapes, and so bytes, are right. `sent` is what a rank sends in a step if
collectives are rings (an all-reduce of n bytes: 2 n (W - 1) / W; a gather or reduce-scatter to or from n bytes: n (W -
1) / W). `held` is the most that tensors take at once beyond the embeddings [b, d] themselves. Theory knows only the
leading terms: a loss over pairs gathers one tower's rows (uniformity: both) and scatters their gradient, 2 x 4 B d
bytes sent and held, and holds a block of pairs and its gradient; a loss over d x d sums reduces those in float64 once,
whatever B is.

On paper: compute, gradients and loss of one step at the links and the share of the peak that are stated below, from
counted FLOPs, activations and bytes; latencies are left out. `truth` is what one core here needs to say which of the
step's queries are true of a rank's scenes (`targets: truth`). Names that end in _ratio are ratios.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from common import options, table, write
from embeddings import POOL, clear, loss_inputs, peak_bytes
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from dualenc.config import PRESETS
from dualenc.losses import LOSSES
from dualenc.models import DualEncoder, TextTower, VisionTower
from dualenc.scenes import ConceptSpace, Grammar, ObjectSplit, Scenes, SceneSampler, truth

DIM = 512
ROWS = 32  # of a rank in the table at a constant share
GLOBAL = 32768  # rows of all ranks in the table at a constant batch
BLOCK = 1024 * 1024  # pairs that a loss looks at at once
OPTIONS: dict[str, dict[str, Any]] = {"infonce": {"edits": False}, "siglip": {"edits": False}}

CLEVR = {
    "size": ["small", "large"],
    "color": ["gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"],
    "material": ["rubber", "metal"],
    "shape": ["sphere", "cube", "cylinder"],
}
PIXELS, PATCH, TOKENS, VOCABULARY = 64, 8, 24, 64
NUM_GPUS = (64, 256, 1024)
PEAK = {"bf16": 989e12, "fp32": 67e12}  # FLOP/s of an H100 SXM, dense, without TF32
SHARE = 0.4  # of the peak that is taken to be reached
LINKS = {  # bytes/s of one GPU in one direction
    "NVLink": 450e9,
    "InfiniBand 400G per GPU": 50e9,
    "Ethernet 100G per 8 GPUs": 12.5e9 / 8,
}


@contextmanager
def pretended(world: int) -> Iterator[None]:
    """Rank 0 of a world whose collectives move nothing."""
    dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


class Sent(TorchDispatchMode):
    """Adds up what this rank sends through collectives, as rings."""

    PASSES: ClassVar = {"allreduce_": 2, "_allgather_base_": 1, "_reduce_scatter_base_": 1}

    def __init__(self, world: int) -> None:
        super().__init__()
        self.world, self.bytes = world, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            tensors = [x for arg in args for x in (arg if isinstance(arg, list) else [arg])]
            size = max(x.nbytes for x in tensors if isinstance(x, torch.Tensor))
            self.bytes += self.PASSES[func.overloadpacket.__name__] * size * (self.world - 1) / self.world
        return func(*args, **(kwargs or {}))


def measure(name: str, rows: int, world: int) -> tuple[float, int]:
    """Bytes sent and bytes held by rank 0."""
    inputs = loss_inputs(rows, DIM, world)

    def work() -> None:
        clear(inputs)
        LOSSES[name](inputs, **OPTIONS.get(name, {}))[0].backward()

    with pretended(world):
        with Sent(world) as sent:
            work()
        clear(inputs)
        return sent.bytes, peak_bytes(work)


def theory(name: str, rows: int, world: int) -> tuple[float, float]:
    """The leading terms of the same; no bytes sent where only a few numbers are."""
    share, batch = (world - 1) / world, rows * world
    embeddings, matrix = 4 * batch * DIM, 8 * DIM**2
    block = 4 * min(rows * batch, BLOCK)
    pool = 4 * 2 * world * -(-POOL // world) * DIM
    spectrum = (2 * share * matrix, 2 * matrix) if 2 * batch > DIM else (0.0, 0.0)  # else by way of the rows
    return {
        "infonce": (share * 2 * embeddings, 2 * embeddings + 2 * block),
        "siglip": (share * 2 * embeddings, 2 * embeddings + 2 * block),
        "uniformity": (share * 4 * embeddings, 4 * embeddings + 4 * block),
        "recognition": (share * 2 * pool, 2 * pool),
        "cka": (2 * share * 3 * matrix, 2 * 3 * matrix),
        "svd": spectrum,
        "clip_svd": spectrum,
    }.get(name, (0.0, 0.0))


def count_losses(shares: dict[str, dict[int, int]]) -> dict[str, float]:
    """Bytes of every loss at every world size; shares: title -> {world size: rows of a rank}."""
    found: dict[str, float] = {}
    for title, sizes in shares.items():
        lines = []
        for name in LOSSES:
            for world, rows in sizes.items():
                sent, held = measure(name, rows, world)
                expected = theory(name, rows, world)
                key = f"{name}/{title}/{world}"
                found |= {f"{key}/sent_bytes": sent, f"{key}/held_bytes": held}
                cells = []
                for what, count, leading in (("sent", sent, expected[0]), ("held", held, expected[1])):
                    if leading:
                        found[f"{key}/{what}_of_theory_ratio"] = count / leading
                    cells += [f"{count / 1e6:.3f}", f"{leading / 1e6:.3f}" if leading else "-"]
                lines.append([name, str(world), str(rows * world), *cells])
        header = ("loss", "ranks", "global batch", "sent, MB", "theory", "held, MB", "theory")
        table(f"Bytes of rank 0, {title}", header, lines)
    return found


def twin_towers() -> DualEncoder:
    """The default model on 64 px pictures and captions of 24 tokens."""
    sizes = PRESETS["base"]
    return DualEncoder(
        VisionTower(image_size=PIXELS, patch_size=PATCH, **sizes),  # type: ignore[arg-type]
        TextTower(VOCABULARY, max_length=TOKENS, **sizes),  # type: ignore[arg-type]
    )


def count_model() -> dict[str, float]:
    """Parameters of the model; FLOPs and bytes of saved activations of one sample, under bf16 autocast."""
    model = twin_towers()

    def embed(num: int) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            pictures = torch.rand(num, PIXELS, PIXELS, 3).mul(255).byte()
            queries = torch.randint(1, VOCABULARY, (num, TOKENS))
            return (model.encode_scenes(pictures) * model.encode_queries(queries)).sum()

    with FlopCounterMode(display=False) as counter:
        embed(2).backward()
    # What grows with the batch: autocast also keeps copies of the weights.
    saved = [_saved_bytes(lambda num=num: embed(num)) for num in (2, 6)]  # type: ignore[misc]
    return {
        "model/parameters": float(sum(p.numel() for p in model.parameters())),
        "model/flops_per_sample": counter.get_total_flops() / 2,
        "model/activation_bytes_per_sample": (saved[1] - saved[0]) / 4,
    }


def _saved_bytes(work: Callable[[], object]) -> int:
    """Bytes that autograd keeps for the backward pass."""
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = work()
        size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return size


def truth_seconds() -> float:
    """Seconds of one core for one pair of scene and query, which `targets: truth` asks about: CLEVR's objects, one to
    six in a scene, queries that list all of a scene's, as captions do."""
    space = ConceptSpace.named(CLEVR)
    split = ObjectSplit.uniform(space, coverage=0.7, seed=0, val_fraction=0.125)
    sampler = SceneSampler(split, seed=0, counts={num: 1.0 for num in range(1, 7)})
    objects = sampler.draw_objects("train", 0, GLOBAL)
    forms, scenes = Grammar(space).object_forms(objects), Scenes.of(space, objects[:128])
    start = time.process_time()
    truth(forms, scenes)
    return (time.process_time() - start) / (len(forms) * len(scenes))


def on_paper(model: dict[str, float], world: int) -> dict[str, float]:
    """Memory, bytes and least milliseconds of one step with InfoNCE over `GLOBAL` samples, on one of `world` GPUs.

    The loss waits for the embeddings of all ranks and the backward waits for the loss. The reduction of gradients can
    hide behind the backward of the towers, two thirds of their time.
    """
    rows, share = GLOBAL // world, (world - 1) / world
    parameters = model["model/parameters"]
    sent, held = measure("infonce", rows, world)
    gradients = 2 * share * 4 * parameters
    pair_flops = 8 * rows * GLOBAL * DIM  # forward, again in the backward, and two products for the gradients
    found = {
        # float32 weights, gradients (which are DDP's buckets) and two moments of AdamW; the weights once more in bf16
        "state_bytes": (4 + 4 + 8 + 2) * parameters,
        "activation_bytes": rows * model["model/activation_bytes_per_sample"],
        "loss_held_bytes": float(held),
        "gradients_sent_bytes": gradients,
        "loss_sent_bytes": sent,
        "towers_ms": 1e3 * rows * model["model/flops_per_sample"] / (SHARE * PEAK["bf16"]),
        "pairs_ms": 1e3 * pair_flops / (SHARE * PEAK["fp32"]),
    }
    towers = found["towers_ms"]
    for link, speed in LINKS.items():
        reduction, exchange = 1e3 * gradients / speed, 1e3 * sent / speed
        step = max(towers, towers / 3 + reduction) + found["pairs_ms"] + exchange
        found[f"{link}/gradients_ms"], found[f"{link}/loss_ms"] = reduction, exchange
        found[f"{link}/step_ms"], found[f"{link}/towers_of_step_ratio"] = step, towers / step
        found[f"{link}/samples_per_s"] = 1e3 * rows / step
    found["truth_ms"] = 1e3 * model["truth_seconds_per_pair"] * rows * GLOBAL
    return found


def print_paper(model: dict[str, float], paper: dict[int, dict[str, float]]) -> None:
    """The table on paper, one column for each number of GPUs."""
    print(
        f"Model: {model['model/parameters'] / 1e6:.1f} M parameters, "
        f"{model['model/flops_per_sample'] / 1e9:.2f} GFLOP and "
        f"{model['model/activation_bytes_per_sample'] / 1e6:.1f} MB of saved activations a sample (forward, backward); "
        f"truth: {1e9 * model['truth_seconds_per_pair']:.0f} ns of one core a pair"
    )
    lines = []
    for name in next(iter(paper.values())):
        label, scale = (name.removesuffix("_bytes") + ", MB", 1e6) if name.endswith("_bytes") else (name, 1.0)
        lines.append([label.replace("_", " "), *(f"{values[name] / scale:,.2f}" for values in paper.values())])
    table(f"One step over {GLOBAL:,} samples", ("GPUs", *map(str, paper)), lines)


def main() -> None:
    """Counts, prints the tables, writes the JSON."""
    chosen = options(__doc__)
    torch.set_num_threads(1)
    worlds = (1, 64, 1024) if chosen.quick else (1, 4, 16, 64, 256, 1024)
    shares = {f"{ROWS} rows a rank": dict.fromkeys(worlds, ROWS)}
    if not chosen.quick:
        shares[f"{GLOBAL} rows"] = {world: GLOBAL // world for world in NUM_GPUS}
    found = count_losses(shares)
    model = count_model() | {"truth_seconds_per_pair": truth_seconds()}
    paper = {world: on_paper(model, world) for world in NUM_GPUS}
    print_paper(model, paper)
    found |= model
    found |= {f"paper/{world}/{name}": value for world, values in paper.items() for name, value in values.items()}
    write(found, chosen.json)


if __name__ == "__main__":
    main()
