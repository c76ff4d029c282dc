"""Our attacks beside pyautoattack's, on the same model, images and radii, in one process.

    python benchmarks/attacks.py [--images 64] [--eps 2 8] [--parts apgd_ce apgd_t] [--steps 50]

pyautoattack 0.2.0 (`python -m pip install pyautoattack`) runs its own attacks at the settings of AutoAttack standard; ours are the links of
`autoattack`. Both see the samples that the bundled demo answers rightly and every part begins with all of them; batches are of one size, the
model's tile. Seconds are of CPU time, one thread: on a shared machine the wall clock measures the neighbours. The floor of PGD is as many input
gradients of all samples, none of which retires: at a radius that fells nobody.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

import robustvit as rv
from robustvit import registry
from robustvit.attacks.losses import cross_entropy
from robustvit.batch import Batch
from robustvit.classifier import Classifier
from robustvit.draws import Draws
from robustvit.scenario import scenario, stream
from robustvit.search import Search
from robustvit.spec import parse

THEIRS = {"apgd_ce": "apgd-ce", "apgd_t": "apgd-t", "fab_t": "fab-t", "square": "square"}


def samples(model: Classifier, count: int) -> Batch:
    """The first digits that the model answers rightly."""
    data = rv.load_data("digits")
    pixels = torch.stack([model.preprocess(data[i].image) for i in range(count)])
    batch = Batch(pixels, torch.from_numpy(data.labels[:count].copy()), tuple(data.ids[:count]))
    with torch.no_grad():
        return batch[model(pixels).argmax(dim=1) == batch.labels]


def seconds(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """CPU seconds of a piece of work, and what it gave."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def ours(model: Classifier, batch: Batch, name: str, eps: float) -> Tensor:
    """The images that one of our attacks leaves."""
    entry = registry.lookup("attack", name)
    spec = registry.bind(entry, parse({name: {"eps": eps}})[0])
    found = scenario(entry, spec)(model, batch, Draws(0, stream(spec), batch.ids)).images
    assert found is not None
    return found


def theirs(model: Classifier, batch: Batch, name: str, eps: float) -> Tensor:
    """The images that pyautoattack's attack of that name leaves."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(model, norm="Linf", eps=eps, version="custom", attacks=[THEIRS[name]], seed=0)
    attack.verbose = False
    attack.apgd.n_restarts = attack.fab.n_restarts = 1
    attack.fab.n_target_classes = 9
    found: Tensor = attack.run_standard_evaluation(batch.images, batch.labels, batch_size=len(batch))[0]
    return found


def standing(model: Classifier, batch: Batch, images: Tensor) -> Tensor:
    """Which samples are still answered rightly."""
    with torch.no_grad():
        return model(images).argmax(dim=1) == batch.labels


def floor(model: Classifier, batch: Batch, steps: int) -> Tensor:
    """So many input gradients of every sample, without an attack around them."""
    search = Search(model, batch.images, batch.labels, Draws(0, "floor", batch.ids))
    leaf = batch.images
    for _ in range(steps):
        pixels = leaf.detach().requires_grad_(True)
        loss = cross_entropy(model(pixels), batch.labels).sum()
        torch.autograd.grad(loss, pixels)
    return search.found


def main() -> None:
    """Prints a table of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--eps", type=float, nargs="+", default=[2.0, 8.0], help="in 1/255")
    parser.add_argument("--parts", nargs="+", default=list(THEIRS), choices=list(THEIRS))
    parser.add_argument("--steps", type=int, default=50, help="of PGD beside its floor")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model = rv.load_model("demo")
    batch = samples(model, chosen.images)
    entry = registry.lookup("attack", "pgd")
    spec = registry.bind(entry, parse({"pgd": {"eps": 1e-6, "steps": chosen.steps}})[0])
    ratios = []
    for _ in range(chosen.repeats):
        least, _ = seconds(lambda: floor(model, batch, chosen.steps))
        spent, _ = seconds(lambda: scenario(entry, spec)(model, batch, Draws(0, "pgd", batch.ids)).images)  # type: ignore[arg-type, return-value]
        ratios.append(spent / least)
    print(f"PGD-{chosen.steps} over {chosen.steps} input gradients: {sorted(ratios)[len(ratios) // 2]:.3f}\n", flush=True)
    print(
        "| part | eps·255 | stand, ours | stand, theirs | same verdict | ours, s | theirs, s | ours / theirs |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for radius in chosen.eps:
        for name in chosen.parts:
            spent, mine = seconds(lambda name=name, radius=radius: ours(model, batch, name, radius / 255))
            peer, other = seconds(lambda name=name, radius=radius: theirs(model, batch, name, radius / 255))
            a, b = standing(model, batch, mine), standing(model, batch, other)
            same = float((a == b).float().mean())
            told = f"| {name} | {radius:g} | {int(a.sum())} | {int(b.sum())} | {same:.1%} | {spent:.1f} | {peer:.1f} | {spent / peer:.2f} |"
            print(told, flush=True)


if __name__ == "__main__":
    main()
