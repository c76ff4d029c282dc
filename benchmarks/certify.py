"""Certificates by ablations beside one forward pass per masked image, in one process.

    python benchmarks/certify.py [--arch deit_small_patch16_224] [--images 8] [--repeats 3] [--digits 500] [--device cpu] [--tiny]
                                 [--only speed stopping]

speed: bands of 19 columns at stride 1, all votes counted, on a transformer of 224 px with random weights (which cost what trained ones
do). The plain way masks an image, normalises it and passes the whole of it to the module, a batch of masks at a time: 224 passes per
image. That it computes something else (masked tokens stay, black) does not change its cost. The votes are compared with those of the
whole sequence with masked tokens forbidden as keys, which is what dropping them computes. stopping: the demo trained on ablations, on
digits, votes counted until one patch size is decided, beside all votes; random weights, whose votes all agree, would show nothing.
Seconds are of CPU time, one thread; ratios are medians over repeats whose sides follow each other. `--tiny` takes a small transformer and
few images, to see that everything works.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from _models import pixels
from torch import Tensor

import robustvit as rv
from robustvit.certificates.ablations import columns
from robustvit.spec.ablations import Ablations

WIDTH = {224: 19, 32: 4}
PATCHES = {224: (5, 16, 32, 48, 64), 32: (1, 2, 3, 5, 8)}
MASKS = 16  # at once in the plain way; on a CPU the number hardly matters
ROWS = 2048  # small images that a run passes to a certificate together
TINY = "vit_tiny_patch16_224?kwargs=img_size=32,patch_size=8,embed_dim=24,depth=2,num_heads=2&weights=random"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="deit_small_patch16_224")
    parser.add_argument("--images", type=int, default=8, help="for ours; the plain way gets one, since each costs the same")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--digits", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*", default=["speed", "stopping"], choices=["speed", "stopping"])
    parser.add_argument("--tiny", action="store_true", help="a small transformer, a few images, once: seconds")
    chosen = parser.parse_args()
    if chosen.tiny:
        chosen.images, chosen.repeats, chosen.digits = 2, 1, 8
    torch.set_num_threads(1)
    if "speed" in chosen.only:
        speed(TINY if chosen.tiny else f"{chosen.arch}?weights=random", chosen.images, chosen.repeats, chosen.device)
    if "stopping" in chosen.only:
        stopping(chosen.digits, chosen.repeats)


def speed(address: str, count: int, repeats: int, device: str) -> None:
    """Prints the time of all votes, ours beside the plain way, and whether the votes are those of the reference."""
    model, ids = rv.load_model(address, device=device), [str(i) for i in range(count)]
    images = rv.Draws(0, "bench", ids).uniform(3, *model.size).to(device)
    votes(model, images)  # once, for the cost of starting up
    pairs = [(timed(lambda: plain(model, images[:1])), timed(lambda: votes(model, images)) / count) for _ in range(repeats)]
    naive, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(one / other for one, other in pairs)
    reference = torch.stack([by_key_mask(model, image) for image in images]).argmax(dim=2)
    expected = torch.stack([row.bincount(minlength=model.outputs) for row in reference])
    same = torch.equal(expected.cpu(), votes(model, images).long().cpu())
    print(f"| model | plain, s per image | ours | ratio ({ratios[0]:.2f} to {ratios[-1]:.2f}) | votes of the reference |")
    print("|---|--:|--:|--:|---|")
    print(f"| {model.card.label} | {naive:.2f} | {ours:.2f} | **{statistics.median(ratios):.2f}** | {'equal' if same else 'DIFFERENT'} |\n")


def stopping(count: int, repeats: int) -> None:
    """Prints the share of votes and of time that is needed until one patch size is decided."""
    model = rv.load_model("demo/ablations")
    images, bands = pixels(model, rv.load_data("digits"), count), bands_of(model)
    full = gap_of(votes(model, images))
    print("| patch | certified | votes needed | time of all | verdicts |\n|--:|--:|--:|--:|---|")
    for patch in PATCHES[model.size[1]]:
        every, some = (lambda: votes(model, images)), (lambda patch=patch: votes(model, images, stop_at=patch))
        shares = [timed(some) / timed(every) for _ in range(repeats)]
        early, needed = some(), 2 * bands.touched(patch)
        counted = early.sum(dim=1)
        same = torch.equal(full > needed, gap_of(early) - (bands.count - counted) > needed)
        share = float(counted.float().mean()) / bands.count
        cells = f"{float((full > needed).float().mean()):.1%} | {share:.0%} | {statistics.median(shares):.0%}"
        print(f"| {patch} | {cells} | {'equal' if same else 'DIFFERENT'} |")


def bands_of(model: rv.Classifier) -> Ablations:
    """Every band of columns of the model's images."""
    return Ablations("columns", WIDTH[model.size[1]], 1, model.size)


def votes(model: rv.Classifier, images: Tensor, stop_at: int | None = None) -> Tensor:
    """(N, K) votes of the certificate, as a run computes them."""
    parts = images.split(ROWS if model.size[1] < 128 else 48)
    width, ids = WIDTH[model.size[1]], [[str(i) for i in range(len(part))] for part in parts]
    found = [
        columns(model, part, rv.Draws(0, "c", own), width=width, unseen="dropped", stop_at=stop_at).counts
        for part, own in zip(parts, ids, strict=True)
    ]
    return torch.cat(found)


def gap_of(counts: Tensor) -> Tensor:
    """(N,) the most votes minus the second most."""
    first, second = counts.topk(2, dim=1).values.unbind(dim=1)
    return first - second


def plain(model: rv.Classifier, images: Tensor) -> Tensor:
    """(N, K) votes of masked images through the bare module."""
    bands = bands_of(model)
    masks = torch.from_numpy(bands.window(np.arange(bands.count)).columns).to(images.device)
    found = []
    with torch.no_grad():
        for image in images:
            shown = ((image * part[:, None, None, :] - model.mean) / model.std for part in masks.split(MASKS))
            logits = torch.cat([model.model(part) for part in shown])
            found.append(logits.argmax(dim=1).bincount(minlength=logits.shape[1]))
    return torch.stack(found)


def by_key_mask(model: rv.Classifier, image: Tensor) -> Tensor:
    """(bands, K) logits of the whole sequence with masked tokens forbidden as keys."""
    vit, bands, found = model.model, bands_of(model), []
    side, grid = vit.patch_embed.patch_size[1], vit.patch_embed.grid_size
    with torch.no_grad():
        for band in torch.from_numpy(bands.window(np.arange(bands.count)).columns).to(image.device):
            unmasked = band.view(-1, side).any(dim=1).repeat(grid[0])
            allowed = torch.cat([unmasked.new_ones(vit.num_prefix_tokens), unmasked])
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
