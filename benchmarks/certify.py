"""Certificates by ablations beside the plain way, 224 masked forward passes a picture, in one process.

    python benchmarks/certify.py [--arch deit_small_patch16_224] [--images 8] [--repeats 3] [--digits 500] [--only speed stopping]

speed: bands of 19 columns at stride 1, all votes counted, on a transformer of 224 px with random weights (which cost what trained ones do). The plain way masks
a picture, normalises it and gives the whole of it to the module, a batch of masks at a time; that it answers another question (hidden tokens stay, black) changes
nothing of its cost. `reference` forbids hidden tokens as keys in the whole sequence, which is what dropping them computes: its votes must be ours.
stopping: the demo trained on ablations, on digits, votes counted until one patch size is decided, beside all of them: on random weights, which vote as one, this
would measure nothing. Seconds are of CPU time, one thread; ratios are medians over repeats whose sides follow each other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import robustvit as rv
from robustvit.evaluation.evaluate import rows_at_once
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.scenario import scenario
from robustvit.spec.ablations import Ablations
from robustvit.spec.registry import bind, lookup
from robustvit.spec.spec import parse
from robustvit.training.loop import load_batch

WIDTH = {224: 19, 32: 4}
PATCHES = {224: (5, 16, 32, 48, 64), 32: (1, 2, 3, 5, 8)}
ROWS = 16  # masks at once in the plain way; on a CPU the number hardly matters


def main() -> None:
    """Prints the tables."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--arch", default="deit_small_patch16_224")
    asked.add_argument("--images", type=int, default=8, help="for ours; the plain way is given one, since it costs each the same")
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--digits", type=int, default=500)
    asked.add_argument("--device", default="cpu")
    asked.add_argument("--only", nargs="*", default=["speed", "stopping"])
    chosen = asked.parse_args()
    torch.set_num_threads(1)
    if "speed" in chosen.only:
        speed(chosen.arch, chosen.images, chosen.repeats, chosen.device)
    if "stopping" in chosen.only:
        stopping(chosen.digits, chosen.repeats)


def speed(arch: str, count: int, repeats: int, device: str) -> None:
    """All votes: ours, blackened tokens kept, and the plain way."""
    model = rv.load_model(f"{arch}?weights=random", device=device)
    images = Draws(0, "bench", [str(i) for i in range(count)]).uniform(3, *model.size).to(device)
    batch = Batch(images, torch.zeros(count, dtype=torch.int64, device=device), tuple(str(i) for i in range(count)))
    certified(model, batch, "dropped")  # once, for what starting up costs
    pairs = [(timed(lambda: plain(model, images[:1])), timed(lambda: certified(model, batch, "dropped")) / count) for _ in range(repeats)]
    naive, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    reference = torch.stack([by_key_mask(model, image) for image in images]).argmax(dim=2)
    same = torch.equal(
        torch.stack([row.bincount(minlength=model.outputs).max() for row in reference]).int(),
        certified(model, batch, "dropped")["votes_first"],
    )
    print(
        f"| model | plain, s an image | ours | ratio ({min(a / b for a, b in pairs):.2f} to {max(a / b for a, b in pairs):.2f}) | votes of the reference |"
    )
    print("|---|--:|--:|--:|---|")
    print(f"| {arch} | {naive:.2f} | {ours:.2f} | **{ratio:.2f}** | {'equal' if same else 'DIFFERENT'} |\n")


def stopping(count: int, repeats: int) -> None:
    """Votes until one patch size is decided, beside all."""
    model = rv.load_model("demo/ablations")
    batch = load_batch(rv.load_data("digits"), np.arange(count), model.view, "cpu")
    full = certified(model, batch, "dropped")
    bands = bands_of(model)
    print("| patch | holds | votes needed | time of all | verdicts |\n|--:|--:|--:|--:|---|")
    for patch in PATCHES[model.size[1]]:
        pairs = [
            (timed(lambda: certified(model, batch, "dropped")), timed(lambda p=patch: certified(model, batch, "dropped", stop_at=p)))
            for _ in range(repeats)
        ]
        early, gap = certified(model, batch, "dropped", stop_at=patch), 2 * bands.touched(patch)
        holds = full["votes_first"] - full["votes_second"] > gap
        same = torch.equal(holds, early["votes_first"] - early["votes_second"] - (bands.count - early["votes"]) > gap)
        share, seconds = float(early["votes"].float().mean()) / bands.count, statistics.median(two / one for one, two in pairs)
        print(
            f"| {patch} | {100 * float(holds.float().mean()):.1f} % | {100 * share:.0f} % | {100 * seconds:.0f} % | {'equal' if same else 'DIFFERENT'} |"
        )


def bands_of(model: Classifier) -> Ablations:
    """Every band of columns of the model's pictures."""
    return Ablations("columns", WIDTH[model.size[1]], 1, model.size)


def certified(model: Classifier, batch: Batch, unseen: str, **more: int) -> dict[str, Tensor]:
    """What the certificate tells of a batch, handed over as a run does."""
    entry = lookup("certificate", "columns")
    spec = bind(entry, parse({"columns": {"width": WIDTH[model.size[1]], "unseen": unseen, **more}})[0])
    parts = [
        scenario(entry, spec)(model, part, Draws(0, "c", part.ids)).columns
        for part in batch.chunks(rows_at_once("certificate", model.tile, model.size))
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def plain(model: Classifier, images: Tensor) -> Tensor:
    """(N, K) votes of masked pictures through the bare module."""
    masks = torch.from_numpy(bands_of(model).window(np.arange(bands_of(model).count)).columns).to(images.device)
    votes = []
    with torch.no_grad():
        for image in images:
            logits = torch.cat([model.model((image * part[:, None, None, :] - model.mean) / model.std) for part in masks.split(ROWS)])
            votes.append(logits.argmax(dim=1).bincount(minlength=logits.shape[1]))
    return torch.stack(votes)


def by_key_mask(model: Classifier, image: Tensor) -> Tensor:
    """(bands, K) logits by the whole sequence, hidden tokens forbidden as keys."""
    vit, found = model.model, []
    side, grid = vit.patch_embed.patch_size[1], vit.patch_embed.grid_size
    with torch.no_grad():
        for band in torch.from_numpy(bands_of(model).window(np.arange(bands_of(model).count)).columns).to(image.device):
            seen = band.view(-1, side).any(dim=1).repeat(grid[0])
            allowed = torch.cat([seen.new_ones(vit.num_prefix_tokens), seen])
            features = vit.forward_features((image * band - model.mean) / model.std, attn_mask=allowed.expand(1, 1, len(allowed), -1))
            found.append(vit.forward_head(features)[0])
    return torch.stack(found)


def timed(work: Callable[[], object]) -> float:
    """CPU seconds; on a GPU, seconds."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    began = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - began


if __name__ == "__main__":
    main()
