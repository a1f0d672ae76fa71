"""CLIP's text tower with random weights: how far its embeddings are additive depends on what "random" means.

    python benchmarks/random_clip.py [--values N] [--texts N] [--seeds N] [--quick] [--json PATH]

The published row "random-init CLIP" (arXiv 2605.31503) does not say how the weights were drawn, nor which words the
20 attributes and 20 nouns are. Both matter. Weights: of CLIP's first release `transformers` exchanges two standard
deviations, width^-1/2 and (2 layers width)^-1/2, so that it draws queries, keys and values of the attention 4.9 times
smaller and its output 4.9 times larger; positions are twice as large (0.02 and 0.01), the other matrices alike.
Words: all a single token, or one to three tokens each, by chance, so that what follows a word does not always stand
at the same place. `torch` is what every module of the library does by itself: embeddings and positions of standard
deviation 1, matrices uniform. For each of the six: `dualenc.analyze decomposition` on all ordered pairs of N x N
values, or on texts drawn from them without repetition. Averages over few texts flatter what they reconstruct (`same`)
and do the opposite to others (`held out`); over all pairs both come together.
"""

import argparse
import copy
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
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
from dualenc.analysis.pretrained import Pretrained, random_clip
from dualenc.analysis.studies import DecompositionOptions
from dualenc.analysis.texts import draw_pairs, text_space, texts_of
from dualenc.scenes import ConceptSpace

LENGTHS = {"1": 1, "1 to 3": 3}
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


def stretched(texts: Sequence[str], most: int, *, seed: int) -> list[str]:
    """The texts with every value one to `most` words long, by chance: what a word of several tokens looks like."""
    fixed = {"a", "and"}
    names = sorted({word for text in texts for word in text.split()} - fixed)
    lengths = np.random.default_rng(seed).integers(1, most + 1, len(names))
    longer = {name: " ".join(name + "x" * i for i in range(k)) for name, k in zip(names, lengths.tolist())}
    return [" ".join(longer.get(word, word) for word in text.split()) for text in texts]


@torch.no_grad()
def as_torch_draws(clip: Pretrained) -> None:
    """Draws every module of the text tower anew as `torch.nn` does by itself."""
    for module in (*clip.model.text_model.modules(), clip.model.text_projection):
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


REDRAWN = {"first release": as_first_released, "torch": as_torch_draws}


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


def of_one_length(rows: Sequence[Sequence[int]], most: int) -> Iterator[tuple[list[int], Tensor]]:
    """Token sequences by length, at most so many at once: which they are, and they themselves, int64 [k, length]."""
    for length in sorted(set(map(len, rows))):
        which = [i for i, row in enumerate(rows) if len(row) == length]
        for start in range(0, len(which), most):
            part = which[start : start + most]
            yield part, torch.tensor([rows[i] for i in part])


@torch.no_grad()
def embed_all(clip: Pretrained, space: ConceptSpace, most: int, *, seed: int) -> Tensor:
    """[|O|^2, d]: the texts of all ordered pairs of objects, as `draw_pairs` lists them, beginnings computed once."""

    def ids(text: str) -> list[int]:
        return clip.tokens([text])[0, 1:-1].tolist()

    begin, end = clip.tokens([""])[0].tolist()
    said = stretched([value for values in space.values for value in values], most, seed=seed)
    attributes, nouns = said[: space.sizes[0]], said[space.sizes[0] :]
    beginnings = [[begin, *ids(f"a {attribute} {noun} and")] for attribute in attributes for noun in nouns]
    middles = [ids(f"a {attribute}") for attribute in attributes]
    endings = [[*ids(noun), end] for noun in nouns]
    found = torch.empty(space.num_objects, *space.sizes, clip.model.config.projection_dim)
    for rows, tokens in tqdm(list(of_one_length(beginnings, 4)), leave=False):
        beginning = Prefixes(clip, tokens)
        for columns, tokens in of_one_length(middles, len(middles)):
            middle = beginning.continued(tokens)
            for places, tokens in of_one_length(endings, len(endings)):
                z = middle.continued(tokens).embeddings().view(len(rows), len(columns), len(places), -1)
                found[np.ix_(rows, columns, places)] = z
    return found.flatten(0, 2)


def measure(weights: str, most: int, *, values: int, num_texts: int | None, seed: int) -> dict[str, dict[str, Any]]:
    """Figures by scenes and estimator, of one draw of weights, texts and lengths."""
    space = text_space(values, values)
    clip = random_clip("clip-vit-base-patch32", seed=seed)
    if weights in REDRAWN:
        REDRAWN[weights](clip)
    pairs = draw_pairs(space, num_texts or space.num_objects**2, seed=seed)
    texts = stretched(texts_of(space, pairs), most, seed=seed)
    if len(pairs) == space.num_objects**2:
        z = embed_all(clip, space, most, seed=seed)
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


def measured(values: int, num_texts: int | None, seeds: int) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """(which weights and words, figures of all seeds by their names)."""
    for weights in ("transformers", *REDRAWN):
        for words, most in LENGTHS.items():
            found: dict[str, list[float]] = {}
            for seed in range(seeds):
                print(f"{weights} weights, words of {words} tokens, seed {seed}", file=sys.stderr, flush=True)
                for place, row in measure(weights, most, values=values, num_texts=num_texts, seed=seed).items():
                    for figure in FIGURES:
                        found.setdefault(f"{place}/{figure}", []).append(float(row[figure]))
            yield f"{weights} | {words}", found


def cell(values: Sequence[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=8, help="attributes, and nouns; published: 20")
    parser.add_argument("--texts", type=int, help="of all ordered pairs; else all of them")
    parser.add_argument("--seeds", type=int, default=3, help="of weights, texts and lengths together")
    parser.add_argument("--quick", action="store_true", help="4 x 4 values, one seed: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file too")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    values, seeds = (4, 1) if chosen.quick else (chosen.values, chosen.seeds)
    results = dict(measured(values, chosen.texts, seeds))
    said = f"{chosen.texts or values**4:,} texts of {values} x {values} values, {seeds} seeds"
    for figure in FIGURES:
        places = [f"{scenes}/{estimator}" for estimator in PUBLISHED for scenes in ("same", "held out")]
        lines = [
            [*name.split(" | "), *(cell(found[f"{p}/{figure}"]) for p in places)] for name, found in results.items()
        ]
        table(f"{figure}, {said}", ["weights", "tokens a word", *places], lines)
    write(
        {f"{name}/{key}": statistics.mean(v) for name, found in results.items() for key, v in found.items()},
        chosen.json,
    )


if __name__ == "__main__":
    main()
