"""CLIP's text tower with random weights: how far its embeddings are additive depends on what "random" means.

    python benchmarks/random_clip.py [--weights NAME ...] [--values N] [--texts N] [--seeds N] [--quick] [--json PATH]

The published row "random-init CLIP" (arXiv 2605.31503) does not say how the weights were drawn. The released code does
(oshapio/binding-concepts-complexity): the trained CLIP, whose `initialize_parameters` then draws matrices, embeddings
and positions anew, and nothing else: LayerNorms and biases stay as trained. Rows:

- `transformers`: as it draws a new CLIP. Of CLIP's first release it exchanges two standard deviations, width^-1/2 and
  (2 layers width)^-1/2, so that it draws queries, keys and values of the attention 4.9 times smaller and its output 4.9
  times larger; positions are twice as large (0.02 and 0.01), the other matrices alike.
- `first release`: as CLIP's own code draws a new model, every LayerNorm with gain 1.
- `gain 1.8`: the same, every LayerNorm with gain 1.8, so that attention scores are 3.2 times as large. It stands in for
  trained LayerNorms; the gain is fitted to the published R^2.
- `torch`: what every module of the library does by itself: embeddings and positions of standard deviation 1, matrices
  uniform.
- the folder of a CLIP checkpoint: as the released code draws. Not among the rows unless asked for.

For each: `dualenc.analyze decomposition` on all ordered pairs of N x N values, or on texts drawn from them without
repetition. Every word is one token. Averages over few texts flatter what they reconstruct (`same`) and do the opposite
to others (`held out`); over all pairs both come together.
"""

import argparse
import copy
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch

import numpy as np
import torch
from common import table, write
from torch import Tensor
from tqdm import tqdm

from dualenc.analysis.decomposition import decomposition
from dualenc.analysis.embedded import EmbeddedScenes
from dualenc.analysis.pretrained import Pretrained, load_pretrained, random_clip
from dualenc.analysis.studies import DecompositionOptions
from dualenc.analysis.texts import draw_pairs, text_space, texts_of
from dualenc.scenes import ConceptSpace

GAIN = 1.8
PUBLISHED = {"avg": 0.47, "avg+pos": 0.69}
FIGURES = ("r2", "retrieval", "probe_concepts")
BATCH = 200


@torch.no_grad()
def as_first_released(clip: Pretrained) -> None:
    """Draws the text tower's matrices, embeddings and positions anew, with CLIP's own standard deviations.

    Source: Radford et al. 2021 (arXiv 2103.00020) and its code: 0.02 for tokens, 0.01 for positions, width^-1/2 for
    queries, keys and values and for the projection, (2 layers width)^-1/2 for what is added to the residual stream,
    (2 width)^-1/2 for the first matrix of an MLP.
    """
    tower, width = clip.model.text_model, clip.model.config.text_config.hidden_size
    layers = tower.encoder.layers
    added = (2 * len(layers) * width) ** -0.5
    tower.embeddings.token_embedding.weight.normal_(std=0.02)
    tower.embeddings.position_embedding.weight.normal_(std=0.01)
    for layer in layers:
        attention, mlp = layer.self_attn, layer.mlp
        for matrix in (attention.q_proj, attention.k_proj, attention.v_proj):
            matrix.weight.normal_(std=width**-0.5)
        for matrix in (attention.out_proj, mlp.fc2):
            matrix.weight.normal_(std=added)
        mlp.fc1.weight.normal_(std=(2 * width) ** -0.5)
    clip.model.text_projection.weight.normal_(std=width**-0.5)


def as_fitted(clip: Pretrained) -> None:
    """As first released, with LayerNorms of one gain."""
    as_first_released(clip)
    for module in clip.model.text_model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.constant_(module.weight, GAIN)


@torch.no_grad()
def as_torch_draws(clip: Pretrained) -> None:
    """Draws every module of the text tower anew as `torch.nn` does by itself."""
    for module in (*clip.model.text_model.modules(), clip.model.text_projection):
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


DRAWS: dict[str, Callable[[Pretrained], None]] = {
    "transformers": lambda clip: None,
    "first release": as_first_released,
    f"gain {GAIN}": as_fitted,
    "torch": as_torch_draws,
}


def drawn(weights: str, *, seed: int) -> Pretrained:
    """A CLIP with weights as a name of DRAWS says; or that of a folder, matrices and embeddings drawn anew."""
    if weights in DRAWS:
        clip = random_clip("clip-vit-base-patch32", seed=seed)
        DRAWS[weights](clip)
    else:
        clip = load_pretrained(Path(weights))
        torch.manual_seed(seed)
        as_first_released(clip)
    return clip


class Prefixes:
    """Beginnings of n texts of one length, as CLIP's text tower has read them.

    The tower is causal, so what many texts begin with is computed once, and keys and values are all that the tokens
    after it need. states [n, s, d]: of the tokens read last; keys, values: for each layer [n, heads, length, head_dim].
    """

    def __init__(self, clip: Pretrained, tokens: Tensor, before: "Prefixes | None" = None) -> None:
        self.clip, tower = clip, clip.model.text_model
        start = 0 if before is None else before.length
        self.length = start + tokens.shape[1]
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        places = torch.arange(start, self.length)
        seen = places[:, None] >= torch.arange(self.length)
        x = tower.embeddings.token_embedding(tokens) + tower.embeddings.position_embedding(places)
        for i, layer in enumerate(tower.encoder.layers):
            attention, y = layer.self_attn, layer.layer_norm1(x)
            matrices = (attention.q_proj, attention.k_proj, attention.v_proj)
            q, k, v = (m(y).unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2) for m in matrices)
            if before is not None:
                k, v = torch.cat([before.keys[i], k], dim=2), torch.cat([before.values[i], v], dim=2)
            read = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
            x = x + attention.out_proj(read.transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.layer_norm2(x))
            self.keys.append(k)
            self.values.append(v)
        self.states = x

    def continued(self, endings: Tensor) -> "Prefixes":
        """Each beginning with each of the endings [k, s]: n * k texts, those of one beginning in a row."""
        again = copy.copy(self)
        again.keys, again.values = (
            [part.repeat_interleave(len(endings), dim=0) for part in parts] for parts in (self.keys, self.values)
        )
        return Prefixes(self.clip, endings.repeat(len(self.states), 1), again)

    def embeddings(self) -> Tensor:
        """[n, d]: what `Pretrained.texts` gives where the last token is the end token."""
        return self.clip.model.text_projection(self.clip.model.text_model.final_layer_norm(self.states[:, -1]))


@torch.no_grad()
def embed_all(clip: Pretrained, space: ConceptSpace) -> Tensor:
    """[|O|^2, d]: the texts of all ordered pairs of objects, as `draw_pairs` lists them, beginnings computed once.

    Every word is one token.
    """
    attributes, nouns = space.values
    beginnings = clip.tokens([f"a {attribute} {noun} and" for attribute in attributes for noun in nouns])[:, :-1]
    middles = clip.tokens([f"a {attribute}" for attribute in attributes])[:, 1:-1]
    endings = clip.tokens(nouns)[:, 1:]
    return torch.cat(
        [
            Prefixes(clip, tokens).continued(middles).continued(endings).embeddings()
            for tokens in tqdm(beginnings.split(4), leave=False)
        ]
    )


def measure(weights: str, *, values: int, num_texts: int | None, seed: int) -> dict[str, dict[str, Any]]:
    """Figures by scenes and estimator, of one draw of weights and texts."""
    space = text_space(values, values)
    clip = drawn(weights, seed=seed)
    pairs = draw_pairs(space, num_texts or space.num_objects**2, seed=seed)
    texts = texts_of(space, pairs)
    if len(pairs) == space.num_objects**2:
        z = embed_all(clip, space)
        some = np.random.default_rng(seed).permutation(len(texts))[:16].tolist()
        torch.testing.assert_close(z[some], clip.texts([texts[i] for i in some]), rtol=1e-4, atol=1e-4)
    else:
        z = torch.cat([clip.texts(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)])
    options = DecompositionOptions(num_scenes=len(pairs), seed=seed, object_probe=False)
    rows = decomposition([EmbeddedScenes(z, pairs, space, "mention")], options)["tables"]["Level I"]
    return {
        f"{row['scenes']}/{row['estimator']}": row
        for row in rows
        if row["embeddings"] == "raw" and row["status"] == "all" and row["estimator"] in PUBLISHED
    }


def measured(weights: str, values: int, num_texts: int | None, seeds: int) -> dict[str, list[float]]:
    """Figures of all seeds by their names."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        print(f"{weights}, seed {seed}", file=sys.stderr, flush=True)
        for place, row in measure(weights, values=values, num_texts=num_texts, seed=seed).items():
            for figure in FIGURES:
                found.setdefault(f"{place}/{figure}", []).append(float(row[figure]))
    return found


def cell(values: Sequence[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", default=list(DRAWS), metavar="NAME", help="rows; or folders of a CLIP")
    parser.add_argument("--values", type=int, default=8, help="attributes, and nouns; published: 20")
    parser.add_argument("--texts", type=int, help="of all ordered pairs; else all of them")
    parser.add_argument("--seeds", type=int, default=3, help="of weights and texts together")
    parser.add_argument("--quick", action="store_true", help="4 x 4 values, one seed: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file too")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    values, seeds = (4, 1) if chosen.quick else (chosen.values, chosen.seeds)
    results = {name: measured(name, values, chosen.texts, seeds) for name in chosen.weights}
    said = f"{chosen.texts or values**4:,} texts of {values} x {values} values, {seeds} seeds"
    for figure in FIGURES:
        places = [f"{scenes}/{estimator}" for estimator in PUBLISHED for scenes in ("same", "held out")]
        lines = [[name, *(cell(found[f"{p}/{figure}"]) for p in places)] for name, found in results.items()]
        table(f"{figure}, {said}", ["weights", *places], lines)
    write(
        {f"{name}/{key}": statistics.mean(v) for name, found in results.items() for key, v in found.items()},
        chosen.json,
    )


if __name__ == "__main__":
    main()
