"""Our attacks beside pyautoattack's and torchattacks', on the same models, images and radii, in one process.

    python benchmarks/attacks.py [--images 64] [--models demo cnn vit] [--norms linf l2 l1] [--only floor parts standard torchattacks large]

pyautoattack 0.2.0 and torchattacks 3.5.1 (`python -m pip install pyautoattack torchattacks`) run their own attacks, AutoAttack at its standard settings;
ours are the links of `autoattack`. Everybody sees the samples that the model answers rightly. Seconds are of CPU time, one thread: on a shared machine
the wall clock measures the neighbours. The models are the bundled demo, and a small CNN and a small transformer that begin with random weights and
are trained for a few passes here. The floor of PGD is as many input gradients of all samples, none of which retires: at a radius that fells nobody.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.attacks.autoattack import autoattack
from robustvit.attacks.losses import cross_entropy
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.scenario import scenario, stream
from robustvit.spec import registry
from robustvit.spec.spec import Spec, parse

PARTS = {"apgd_ce": "apgd-ce", "apgd_t": "apgd-t", "fab_t": "fab-t", "square": "square"}
RADII = {  # of each norm: one that lets nothing of these models stand, and one that most samples stand
    "linf": (32 / 255, 0.5 / 255), "l2": (3.0, 0.1), "l1": (120.0, 1.5)
}  # fmt: skip
MODELS = ("demo", "cnn", "vit")
STEP, STEPS = 1 / 255, 10
LARGE = {"apgd_ce": 15, "square": 60, "fab_t": 8}  # steps at 224 px, where each takes half a second
TORCHATTACKS = {  # theirs, our name, parameters of both
    "FGSM": ("fgsm", {}, {}),
    "PGD": ("pgd", {"steps": STEPS, "step": STEP}, {"steps": STEPS, "alpha": STEP}),
    "MIFGSM": ("mi_fgsm", {"steps": STEPS, "step": STEP}, {"steps": STEPS, "alpha": STEP}),
    "NIFGSM": ("ni_fgsm", {"steps": STEPS, "step": STEP}, {"steps": STEPS, "alpha": STEP}),
    "DIFGSM": ("di_fgsm", {"steps": STEPS, "step": STEP, "decay": 0.0}, {"steps": STEPS, "alpha": STEP}),
    "TIFGSM": ("ti_fgsm", {"steps": STEPS, "step": STEP, "decay": 0.0}, {"steps": STEPS, "alpha": STEP, "diversity_prob": 0.0}),
    "APGD": ("apgd_ce", {"steps": 50}, {"steps": 50}),
    "Square": ("square", {"steps": 500}, {"n_queries": 500}),
}


class Row(NamedTuple):
    """One comparison: how many samples stand on either side, on how many both agree, and the seconds of each."""

    ours: int
    theirs: int
    same: float
    seconds: float
    peer: float


def model_of(name: str) -> Classifier:
    """The demo, or a small model that is trained for a moment on the digits that are not tested."""
    demo = rv.load_model("demo")
    if name == "demo":
        return demo
    torch.manual_seed(0)
    module = _cnn() if name == "cnn" else rv.load_model(_VIT).model
    _train(module.train().requires_grad_(True), demo, 8 if name == "cnn" else 60)
    card = Card(name, Spec(name), fingerprint(module), "given")
    return Classifier(module, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), view=demo.view, card=card, tile=64)


_VIT = "vit_tiny_patch16_224?weights=random&num_classes=10&kwargs=img_size=32,patch_size=8,embed_dim=64,depth=3,num_heads=2"


def _cnn() -> nn.Module:
    widths = (3, 16, 32, 64)
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 10))


def _train(module: nn.Module, shown: Classifier, passes: int) -> None:
    data = rv.load_data("digits", split="train")
    pixels, labels = _pixels(shown, data, len(data)), torch.from_numpy(data.labels.copy())
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for _ in range(passes):
        for part in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(pixels[part] * 2 - 1), labels[part]).backward()
            optimizer.step()


def _pixels(model: Classifier, data: Any, count: int) -> Tensor:
    return torch.stack([model.preprocess(data[i].image) for i in range(count)])


def samples(model: Classifier, count: int) -> Batch:
    """The first digits, that the model answers rightly."""
    data = rv.load_data("digits")
    pixels = _pixels(model, data, count)
    batch = Batch(pixels, torch.from_numpy(data.labels[:count].copy()), tuple(data.ids[:count]))
    with torch.no_grad():
        return batch[model(pixels).argmax(dim=1) == batch.labels]


def attacked(model: Classifier, batch: Batch, node: dict[str, Any]) -> Tensor:
    """The images that one of our attacks leaves."""
    (spec,) = parse(node)
    bound = registry.bind(registry.lookup("attack", spec.name), spec)
    found = scenario(registry.lookup("attack", spec.name), bound)(model, batch, Draws(0, stream(bound), batch.ids)).images
    assert found is not None
    return found


def chained(model: Classifier, batch: Batch, nodes: Iterable[dict[str, Any]]) -> Tensor:
    """The images that attacks leave, each of what those before it left standing."""
    images = batch.images.clone()
    for node in nodes:
        rows = standing(model, batch, images).nonzero().flatten()
        if len(rows):
            images[rows] = attacked(model, batch[rows], node)
    return images


def autoattacked(model: Classifier, batch: Batch, norm: str, eps: float, part: str = "") -> Tensor:
    """The images that pyautoattack leaves: its standard version, or one part of it."""
    from pyautoattack import AutoAttack

    if not part:
        attack = AutoAttack(plain(model), norm=_their(norm), eps=eps, version="standard", seed=0)
    else:
        attack = AutoAttack(plain(model), norm=_their(norm), eps=eps, version="custom", attacks=[PARTS[part]], seed=0)
        attack.apgd.n_restarts, attack.fab.n_restarts, attack.fab.n_target_classes = 5 if norm == "l1" else 1, 1, 9
        attack.apgd_targeted.n_target_classes, attack.apgd_targeted.n_restarts = 5 if norm == "l1" else 9, 1
    attack.verbose = False
    found: Tensor = attack.run_standard_evaluation(batch.images, batch.labels, batch_size=len(batch))[0]
    return found


def _their(norm: str) -> str:
    return {"linf": "Linf", "l2": "L2", "l1": "L1"}[norm]


def plain(model: Classifier) -> nn.Module:
    """The model as others take it: pixels to logits, without tiles and without checks."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.centre, self.spread = model.model, model.mean, model.std

        def forward(self, pixels: Tensor) -> Tensor:
            logits: Tensor = self.inner((pixels - self.centre) / self.spread)
            return logits

    return Plain().eval()


def standing(model: Classifier, batch: Batch, images: Tensor) -> Tensor:
    """Which samples are still answered rightly."""
    with torch.no_grad():
        return model(images).argmax(dim=1) == batch.labels


def compared(model: Classifier, batch: Batch, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> Row:
    """Both sides, timed."""
    spent, mine = seconds(ours)
    peer, other = seconds(theirs)
    a, b = standing(model, batch, mine), standing(model, batch, other)
    return Row(int(a.sum()), int(b.sum()), float((a == b).float().mean()), spent, peer)


def seconds(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """CPU seconds of a piece of work, and what it gave."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def floor(model: Classifier, batch: Batch, steps: int) -> Tensor:
    """So many input gradients of every sample, without an attack around them."""
    for _ in range(steps):
        pixels = batch.images.detach().requires_grad_(True)
        torch.autograd.grad(cross_entropy(model(pixels), batch.labels).sum(), pixels)
    return batch.images


def show_floor(models: dict[str, Classifier], count: int) -> None:
    """PGD of 50 steps over 50 input gradients, the median of five."""
    for name, model in models.items():
        batch, ratios = samples(model, count), []
        for _ in range(5):
            with model.with_small_tiles():
                least, _ = seconds(lambda model=model, batch=batch: floor(model, batch, 50))
            spent, _ = seconds(lambda model=model, batch=batch: attacked(model, batch, {"pgd": {"eps": 1e-6, "steps": 50}}))
            ratios.append(spent / least)
        print(f"PGD-50 over 50 input gradients, {name}: {sorted(ratios)[2]:.3f}\n", flush=True)


def show(head: str, rows: Iterable[tuple[str, int, Row]]) -> None:
    """A table of Markdown, a line as soon as it is known."""
    print(
        f"| {head} | samples | stand, ours | stand, theirs | same verdict | ours, s | theirs, s | ours / theirs |\n|{'---|' * head.count('|')}---|"
        + "--:|" * 7
    )
    for name, count, row in rows:
        ratio = f"{row.seconds / row.peer:.2f}"
        print(
            f"| {name} | {count} | {row.ours} | {row.theirs} | {row.same:.1%} | {row.seconds:.1f} | {row.peer:.1f} | {ratio} |", flush=True
        )
    print()


def main() -> None:
    """Prints tables of Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--norms", nargs="+", default=list(RADII), choices=list(RADII))
    parser.add_argument("--only", nargs="+", default=["floor", "parts", "standard", "torchattacks", "large"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    models = {name: model_of(name) for name in chosen.models}
    if "floor" in chosen.only:
        show_floor(models, chosen.images)
    asked = [(name, norm, eps) for name in models for norm in chosen.norms for eps in RADII[norm]]
    if "standard" in chosen.only:
        show("standard | norm | eps", (standard_row(models[name], name, chosen.images, norm, eps) for name, norm, eps in asked))
    if "parts" in chosen.only:
        show("part | model | norm | eps", (part_row(models[name], name, chosen.images, norm, eps, part) for name, norm, eps in asked for part in PARTS))  # fmt: skip
    if "torchattacks" in chosen.only:
        show("torchattacks | model | eps", (torchattacks_row(models[name], name, chosen.images, theirs) for name in models for theirs in TORCHATTACKS))  # fmt: skip
    if "large" in chosen.only:
        large = rv.load_model("vit_tiny_patch16_224?weights=random", tile=8)
        show("part | model | steps", (large_row(large, part, steps) for part, steps in LARGE.items()))


def standard_row(model: Classifier, name: str, count: int, norm: str, eps: float) -> tuple[str, int, Row]:
    """AutoAttack standard, whole."""
    batch = samples(model, count)
    nodes = autoattack(eps=eps, norm=norm)  # type: ignore[arg-type]
    row = compared(model, batch, lambda: chained(model, batch, nodes), lambda: autoattacked(model, batch, norm, eps))
    return f"{name} | {norm} | {_radius(norm, eps)}", len(batch), row


def part_row(model: Classifier, name: str, count: int, norm: str, eps: float, part: str) -> tuple[str, int, Row]:
    """One part of it, of all samples."""
    batch = samples(model, count)
    node = next(node for node in autoattack(eps=eps, norm=norm) if part in node)  # type: ignore[arg-type]
    row = compared(model, batch, lambda: attacked(model, batch, node), lambda: autoattacked(model, batch, norm, eps, part))
    return f"{part} | {name} | {norm} | {_radius(norm, eps)}", len(batch), row


def large_row(model: Classifier, part: str, steps: int) -> tuple[str, int, Row]:
    """A few steps of one part on eight pictures of 224 px, at a radius that all stand."""
    from pyautoattack import AutoAttack

    images = Draws(0, "large", [str(i) for i in range(8)]).uniform(3, *model.size)
    with torch.no_grad():
        batch = Batch(images, model(images).argmax(dim=1), tuple(str(i) for i in range(8)))
    peer = AutoAttack(plain(model), norm="Linf", eps=1e-5, version="custom", attacks=[PARTS[part]], seed=0)
    peer.verbose = False
    peer.apgd.n_iter, peer.apgd.n_restarts, peer.square.n_queries = steps, 1, steps
    peer.fab.n_iter, peer.fab.n_restarts, peer.fab.n_target_classes = steps, 1, 1
    node = {part: {"eps": 1e-5, "steps": steps, **({"targets": 1} if part == "fab_t" else {})}}
    row = compared(model, batch, lambda: attacked(model, batch, node), lambda: peer.run_standard_evaluation(batch.images, batch.labels, batch_size=8)[0])  # fmt: skip
    return f"{part} | vit_tiny_patch16_224 | {steps}", 8, row


def torchattacks_row(model: Classifier, name: str, count: int, theirs: str) -> tuple[str, int, Row]:
    """One of torchattacks' at 2/255."""
    import torchattacks

    batch, eps = samples(model, count), 2 / 255
    ours, own, their = TORCHATTACKS[theirs]
    attack = getattr(torchattacks, theirs)(plain(model), eps=eps, **their)
    torch.manual_seed(0)
    row = compared(model, batch, lambda: attacked(model, batch, {ours: {"eps": eps, **own}}), lambda: attack(batch.images, batch.labels))
    return f"{theirs}, {ours} | {name} | 2/255", len(batch), row


def _radius(norm: str, eps: float) -> str:
    return f"{eps * 255:g}/255" if norm == "linf" else f"{eps:g}"


if __name__ == "__main__":
    main()
