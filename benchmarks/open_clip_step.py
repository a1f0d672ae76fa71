"""open_clip's side of step.py, for the interpreter of the environment that has open_clip; it imports nothing of ours.

Reads one JSON line of settings, then makes one training step for every further line and answers each with a JSON line.
Model, loss, autocast, optimiser and the order of a step are those of open_clip 3.3's own training script with its
defaults; the sizes are those of step.py.
"""

import json
import math
import sys
import time
from typing import Any

import open_clip
import torch
from open_clip_train.precision import get_autocast
from torch import Tensor


class Step:
    """One training step on random pictures and texts, again and again."""

    def __init__(self, settings: dict[str, Any]) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(settings["threads"])
        width, depth, heads = settings["width"], settings["depth"], settings["heads"]
        size, length, vocabulary = settings["image_size"], settings["context_length"], settings["vocabulary"]
        self.model = open_clip.CLIP(
            embed_dim=settings["output_dim"],
            vision_cfg=open_clip.CLIPVisionCfg(
                layers=depth, width=width, head_width=width // heads, patch_size=settings["patch_size"], image_size=size
            ),
            text_cfg=open_clip.CLIPTextCfg(
                context_length=length, vocab_size=vocabulary, width=width, heads=heads, layers=depth
            ),
            output_dict=True,
        )
        self.loss = open_clip.ClipLoss()
        precision = {"32-true": "fp32", "bf16-mixed": "amp_bf16"}[settings["precision"]]
        self.autocast = get_autocast(precision, device_type="cpu")
        named = list(self.model.named_parameters())
        plain = [p for n, p in named if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n]
        taken = {id(p) for p in plain}
        groups = [
            {"params": plain, "weight_decay": 0.0},
            {"params": [p for _, p in named if id(p) not in taken], "weight_decay": 0.2},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
        self.images = torch.randn(settings["batch"], 3, size, size)
        self.texts = self._texts(settings["batch"], length, vocabulary)

    @staticmethod
    def _texts(number: int, length: int, vocabulary: int) -> Tensor:
        """12 to 24 words between start and end as far as they fit; the end token has the largest id, as in CLIP."""
        texts = torch.zeros(number, length, dtype=torch.int64)
        for row, text in enumerate(texts):
            words = min(12 + row % 13, length - 1)
            text[:words] = torch.randint(1, vocabulary - 1, (words,))
            text[words] = vocabulary - 1
        return texts

    def __call__(self) -> float:
        """The loss."""
        self.optimizer.zero_grad()
        with self.autocast():
            losses = self.loss(**self.model(self.images, self.texts), output_dict=True)
            total = sum(losses.values())
        total.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        return float(total.detach())


def main() -> None:
    """Serves steps until its input ends."""
    step = Step(json.loads(sys.stdin.readline()))
    print(json.dumps({"torch": torch.__version__, "open_clip": open_clip.__version__}), flush=True)
    for _ in sys.stdin:
        clock, cpu = time.perf_counter(), time.process_time()
        loss = step()
        seconds = {"clock": time.perf_counter() - clock, "cpu": time.process_time() - cpu}
        print(json.dumps({**seconds, "loss": loss}), flush=True)


if __name__ == "__main__":
    main()
