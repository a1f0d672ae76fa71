"""Time and memory of every objective, forward and backward, beside the form that one would write down.

    python benchmarks/losses.py [--quick] [--json PATH]

One process, one thread, float32 embeddings of width 512. The naive forms are below: the full matrix of logits and
cross_entropy, n x n Gram matrices, svdvals of the d x d product under autograd. Ours do their sums in float64 where an
objective subtracts nearly equal numbers (cka, svd), so those naive forms are timed in float64 too (`_float64`). Seconds
are CPU time, medians of alternating rounds (of a single run from 16,384 rows on); a speed ratio is the median over
rounds of naive / ours. Memory is the most that tensors take at once beyond the embeddings themselves. Naive forms that
would hold more than 5 GB are left out. Names that end in _ratio are ratios.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from common import alternated, options, report, speed_ratio, table, write
from embeddings import clear, loss_inputs, peak_bytes
from torch import Tensor

from dualenc.losses import LOSSES, LossInputs

DIM = 512
MOST_HELD = 5e9  # bytes of a naive form
SIZES = (1024, 2048, 4096, 8192, 16384, 32768)
WIDE = (256, 1024)  # rows and width, where the rows are the shorter way to the spectrum


def naive_infonce(inputs: LossInputs) -> Tensor:
    """CLIP, figure 3."""
    logits = inputs.logit_scale * inputs.scene @ inputs.query.T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def naive_siglip(inputs: LossInputs) -> Tensor:
    """SigLIP, algorithm 1."""
    logits = inputs.logit_scale * inputs.scene @ inputs.query.T + inputs.logit_bias
    labels = 2 * torch.eye(len(logits)) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


def naive_recognition(inputs: LossInputs) -> Tensor:
    """Cross-entropy against the uniform distribution over the true queries."""
    losses = []
    for queries, true in ((inputs.concepts, inputs.concept_targets), (inputs.objects, inputs.object_targets)):
        target = true / true.sum(1, keepdim=True).clamp(min=1)  # type: ignore[union-attr]
        losses.append(F.cross_entropy(inputs.logit_scale * inputs.scene @ queries.T, target))  # type: ignore[union-attr]
    return (losses[0] + losses[1]) / 2


def naive_cka(inputs: LossInputs, *, debiased: bool) -> Tensor:
    """Kornblith et al., equation 4, or the estimator of Song et al., equation 5, on Gram matrices."""
    k, m = inputs.scene @ inputs.scene.T, inputs.query @ inputs.query.T
    hsic = _debiased_hsic if debiased else _hsic
    return -hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()


def _hsic(k: Tensor, m: Tensor) -> Tensor:
    return (_centred(k) * _centred(m)).sum()


def _centred(k: Tensor) -> Tensor:
    return k - k.mean(0) - k.mean(1, keepdim=True) + k.mean()


def _debiased_hsic(k: Tensor, m: Tensor) -> Tensor:
    n = len(k)
    k, m = (x * (1 - torch.eye(n, dtype=x.dtype)) for x in (k, m))
    rest = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * k.sum(0) @ m.sum(0)
    return (k * m).sum() + rest


def naive_svd(inputs: LossInputs) -> Tensor:
    """The default terms: a gap and the first values, both divided by the sum."""
    x, y = inputs.scene - inputs.scene.mean(0), inputs.query - inputs.query.mean(0)
    values = torch.linalg.svdvals(x.T @ y)
    values = values / values.sum()
    return -(values[2] - values[3]) - 0.5 * values[:3].sum()


def naive_clip_svd(inputs: LossInputs) -> Tensor:
    """As published: neither centred nor scaled."""
    values = torch.linalg.svdvals(inputs.scene.T @ inputs.query)
    return -(values[2] - values[3]) - 0.5 * values[:3].sum() - F.cosine_similarity(inputs.scene, inputs.query).mean()


def naive_hard_negatives(inputs: LossInputs) -> Tensor:
    """Each scene over its own query and its one edit."""
    assert inputs.extra is not None
    logits = inputs.logit_scale * torch.stack(
        [(inputs.scene * inputs.query).sum(1), (inputs.scene * inputs.extra).sum(1)], dim=1
    )
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))


def naive_alignment(inputs: LossInputs) -> Tensor:
    """Wang and Isola's own."""
    return (inputs.scene - inputs.query).norm(p=2, dim=1).pow(2).mean()


def naive_uniformity(inputs: LossInputs) -> Tensor:
    """Of both towers, by Gram matrices of unit vectors (Wang and Isola's pdist takes several times as long)."""
    logs = []
    for x in (inputs.scene, inputs.query):
        potentials = (-2 * (2 - 2 * x @ x.T)).exp()
        logs.append(((potentials.sum() - potentials.trace()) / (len(x) * (len(x) - 1))).log())
    return (logs[0] + logs[1]) / 2


Objective = Callable[[LossInputs], Tensor]


def ours(name: str, **chosen: Any) -> Objective:
    """A loss of the registry without its report."""
    return lambda inputs: LOSSES[name](inputs, **chosen)[0]


def matrices(num: float) -> Callable[[int], float]:
    """Bytes of so many n x n matrices of float32, as a function of n."""
    return lambda n: num * 4 * n**2


# Ours, the naive form, and about what the latter holds.
FORMS: dict[str, tuple[Objective, Objective, Callable[[int], float]]] = {
    "infonce": (ours("infonce", edits=False), naive_infonce, matrices(4.2)),
    "siglip": (ours("siglip", edits=False), naive_siglip, matrices(6)),
    "recognition": (ours("recognition"), naive_recognition, matrices(0)),
    "cka": (ours("cka", debiased=False), partial(naive_cka, debiased=False), matrices(10)),
    "cka_debiased": (ours("cka"), partial(naive_cka, debiased=True), matrices(10)),
    "svd": (ours("svd"), naive_svd, matrices(0)),
    "clip_svd": (ours("clip_svd"), naive_clip_svd, matrices(0)),
    "hard_negatives": (ours("hard_negatives"), naive_hard_negatives, matrices(0)),
    "alignment": (ours("alignment"), naive_alignment, matrices(0)),
    "uniformity": (ours("uniformity"), naive_uniformity, matrices(4)),
}
PRECISE = ("cka", "cka_debiased", "svd", "clip_svd")  # in float64 inside
PAIRWISE = ("infonce", "siglip", "uniformity")
AT_LEAST = {"cka/8192/speed_ratio": 10.0, "cka_debiased/8192/speed_ratio": 10.0} | {
    f"{name}/{n}/speed_ratio": 3.0 for name in ("svd", "clip_svd") for n in (*SIZES, "{}x{}".format(*WIDE))
}
AT_MOST = {f"{name}/{n}/growth_ratio": 2.1 for name in PAIRWISE for n in SIZES}


def double(inputs: LossInputs) -> LossInputs:
    """The same embeddings in float64."""
    scene, query = (x.detach().double().requires_grad_() for x in (inputs.scene, inputs.query))
    return replace(inputs, scene=scene, query=query)


def step(objective: Objective, inputs: LossInputs) -> Tensor:
    """Forward and backward from scratch."""
    clear(inputs)
    loss = objective(inputs)
    loss.backward()
    return loss.detach()


def measure(name: str, n: int, rounds: int, dim: int = DIM) -> dict[str, float]:
    """Milliseconds, bytes and ratios of one objective at one size; ours and the naive form must agree."""
    own, naive, naive_held = FORMS[name]
    inputs = loss_inputs(n, dim)
    works: dict[str, Callable[[], Tensor]] = {"ours": partial(step, own, inputs)}
    if naive_held(n) <= MOST_HELD:
        works["naive"] = partial(step, naive, inputs)
        if name in PRECISE and 2 * naive_held(n) <= MOST_HELD:
            works["naive_float64"] = partial(step, naive, double(inputs))
    found: dict[str, float] = {}
    values = []
    seconds: dict[str, list[float]] = {}
    for form, work in works.items():
        gc.collect()
        clear(inputs)
        start = time.process_time()
        found[f"{form}_held_bytes"] = peak_bytes(lambda work=work: values.append(work()))  # type: ignore[misc]
        seconds[form] = [time.process_time() - start]
    for value in values[1:]:
        torch.testing.assert_close(value.float(), values[0].float(), rtol=1e-3, atol=1e-6)
    if rounds:
        seconds = alternated(works, rounds)
    found |= {f"{form}_ms": 1e3 * statistics.median(times) for form, times in seconds.items()}
    for form in [form for form in works if form != "ours"]:
        suffix = form.removeprefix("naive")
        found[f"speed{suffix}_ratio"] = speed_ratio(seconds, "ours", form)
        found[f"memory{suffix}_ratio"] = found["ours_held_bytes"] / found[f"{form}_held_bytes"]
    return found


def measure_all(name: str, quick: bool) -> dict[str, float]:
    """One objective at all sizes, and its table."""
    found: dict[str, float] = {}
    lines = []
    sizes = [(n, DIM) for n in (SIZES[:2] if quick else SIZES)]
    if name in ("svd", "clip_svd"):
        sizes.append(WIDE)
    for n, dim in sizes:
        now = measure(name, n, 3 if quick else 5 if n < 16384 else 0, dim)
        if name in PAIRWISE and f"{name}/{n // 2}/ours_held_bytes" in found:
            now["growth_ratio"] = now["ours_held_bytes"] / found[f"{name}/{n // 2}/ours_held_bytes"]
        size = str(n) if dim == DIM else f"{n}x{dim}"
        found |= {f"{name}/{size}/{key}": value for key, value in now.items()}
        lines.append(
            [size]
            + [_cell(now, key, 1) for key in ("ours_ms", "naive_ms", "speed_ratio", "speed_float64_ratio")]
            + [_cell(now, key, 1e6) for key in ("ours_held_bytes", "naive_held_bytes")]
        )
    table(name, ("rows", "ms", "naive", "times as fast", "as float64", "held, MB", "naive"), lines)
    return found


def main() -> None:
    """Measures, prints the tables, writes the JSON."""
    chosen = options(__doc__)
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    for name in FORMS:
        if name.removesuffix("_debiased") in LOSSES:
            found |= measure_all(name, chosen.quick)
    aims = AT_LEAST.keys() | AT_MOST.keys()
    report({name: found[name] for name in found if name in aims}, None, at_least=AT_LEAST, at_most=AT_MOST)
    write(found, chosen.json)


def _cell(found: dict[str, float], key: str, scale: float) -> str:
    return f"{found[key] / scale:.1f}" if key in found else "-"


if __name__ == "__main__":
    main()
