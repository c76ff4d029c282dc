"""Our attacks beside pyautoattack's and torchattacks', on the same models, images and radii, in one process.

    python benchmarks/attacks.py [--images 64] [--models demo cnn vit] [--norms linf l2 l1] [--repeats 1] [--tiny]
                                 [--only floor parts standard torchattacks large]

pyautoattack 0.2.0 and torchattacks 3.5.1 (`python -m pip install pyautoattack torchattacks`) run their own attacks, AutoAttack at its
standard settings; ours are `autoattack` and its links. Both sides get the samples that the model classifies rightly. Seconds are of CPU
time, one thread: on a shared machine wall time measures the neighbours; with `--repeats` above 1 they and their ratio are medians. The
models are the bundled demo, and a small CNN and a small transformer that begin with random weights and are trained for a few passes here.
The floor of PGD is as many input gradients of all samples, none of which retires: at a radius that fools no sample. `--tiny` takes few
samples, models and steps, to see that everything works.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from _models import MODELS, Plain, classified, model_of, robust
from torch import Tensor

import robustvit as rv
from robustvit.attacks.autoattack import autoattack

PARTS = {"apgd_ce": "apgd-ce", "apgd_t": "apgd-t", "fab_t": "fab-t", "square": "square"}
RADII = {"linf": (32 / 255, 0.5 / 255), "l2": (3.0, 0.1), "l1": (120.0, 1.5)}  # one at which no sample is robust, one at which most are
THEIR_NORM = {"linf": "Linf", "l2": "L2", "l1": "L1"}
SECTIONS = ("floor", "parts", "standard", "torchattacks", "large")
STEP, STEPS = 1 / 255, 10
LARGE = {"apgd_ce": 15, "square": 60, "fab_t": 8}  # steps at 224 px, where each takes half a second
TORCHATTACKS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # their name, ours, parameters of both
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
    """One comparison: how many samples are robust by either side, the share on which both agree, the seconds of each, and their ratio."""

    ours: int
    theirs: int
    same: float
    seconds: float
    peer: float
    ratio: float


def attacked(model: rv.Classifier, batch: rv.Batch, name: str, **params: Any) -> Tensor:
    """The images that one of our attacks returns."""
    return rv.perturb(model, batch.images, batch.labels, name, ids=batch.ids, **params)


def peer(model: rv.Classifier, norm: str, eps: float, **settings: Any) -> Any:
    """pyautoattack's AutoAttack on the bare module."""
    from pyautoattack import AutoAttack

    made = AutoAttack(Plain(model), norm=THEIR_NORM[norm], eps=eps, seed=0, **settings)
    made.verbose = False
    return made


def one_part(model: rv.Classifier, norm: str, eps: float, part: str) -> Any:
    """pyautoattack with one part of its standard version, at the settings of that version."""
    made = peer(model, norm, eps, version="custom", attacks=[PARTS[part]])
    made.apgd.n_restarts, made.fab.n_restarts, made.fab.n_target_classes = 5 if norm == "l1" else 1, 1, 9
    made.apgd_targeted.n_target_classes, made.apgd_targeted.n_restarts = 5 if norm == "l1" else 9, 1
    return made


def evaluated(made: Any, batch: rv.Batch) -> Tensor:
    """The images that pyautoattack returns."""
    found: Tensor = made.run_standard_evaluation(batch.images, batch.labels, batch_size=len(batch))[0]
    return found


def compared(model: rv.Classifier, batch: rv.Batch, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], repeats: int) -> Row:
    """Both sides, timed in turn."""
    pairs = []
    for _ in range(repeats):
        (spent, mine), (other_spent, other) = seconds(ours), seconds(theirs)
        pairs.append((spent, other_spent))
    a, b = robust(model, batch, mine), robust(model, batch, other)
    mine_s, theirs_s = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(one / two for one, two in pairs)
    return Row(int(a.sum()), int(b.sum()), float((a == b).float().mean()), mine_s, theirs_s, ratio)


def seconds(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """CPU seconds of some work, and its result."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def gradients(model: rv.Classifier, batch: rv.Batch, steps: int) -> Tensor:
    """So many input gradients of every sample, without an attack around them."""
    for _ in range(steps):
        images = batch.images.detach().requires_grad_(True)
        torch.autograd.grad(torch.nn.functional.cross_entropy(model(images), batch.labels, reduction="sum"), images)
    return batch.images


def floor(models: dict[str, rv.Classifier], chosen: argparse.Namespace) -> None:
    """Prints the time of PGD over that of as many input gradients, the median of five."""
    steps, turns = (5, 1) if chosen.tiny else (50, 5)
    for name, model in models.items():
        batch, ratios = classified(model, chosen.images), []
        for _ in range(turns):
            with model.with_small_tiles():
                least, _ = seconds(partial(gradients, model, batch, steps))
            spent, _ = seconds(partial(attacked, model, batch, "pgd", eps=1e-6, steps=steps))
            ratios.append(spent / least)
        print(f"PGD-{steps} over {steps} input gradients, {name}: {statistics.median(ratios):.3f}\n", flush=True)


def show(head: str, rows: Iterable[tuple[str, int, Row]]) -> None:
    """Prints a Markdown table, each line as soon as it is known."""
    print(f"| {head} | samples | robust, ours | robust, theirs | same verdict | ours, s | theirs, s | ours / theirs |")
    print(f"|{'---|' * head.count('|')}---|" + "--:|" * 7)
    for name, count, row in rows:
        cells = f"{row.ours} | {row.theirs} | {row.same:.1%} | {row.seconds:.1f} | {row.peer:.1f} | {row.ratio:.2f}"
        print(f"| {name} | {count} | {cells} |", flush=True)
    print()


def standard(models: dict[str, rv.Classifier], chosen: argparse.Namespace) -> Iterable[tuple[str, int, Row]]:
    """AutoAttack standard, whole."""
    for name, norm, eps in _settings(models, chosen):
        model, batch = models[name], classified(models[name], chosen.images)
        made = peer(model, norm, eps, version="standard")
        ours = partial(attacked, model, batch, "autoattack", eps=eps, norm=norm)
        row = compared(model, batch, ours, partial(evaluated, made, batch), chosen.repeats)
        yield f"{name} | {norm} | {_radius(norm, eps)}", len(batch), row


def parts(models: dict[str, rv.Classifier], chosen: argparse.Namespace) -> Iterable[tuple[str, int, Row]]:
    """Each part of AutoAttack by itself, on all samples."""
    for name, norm, eps in _settings(models, chosen):
        model, batch = models[name], classified(models[name], chosen.images)
        for node in autoattack(eps=eps, norm=norm):  # type: ignore[arg-type]
            ((part, params),) = node.items()
            made = one_part(model, norm, eps, part)
            ours = partial(attacked, model, batch, part, **params)
            row = compared(model, batch, ours, partial(evaluated, made, batch), chosen.repeats)
            yield f"{part} | {name} | {norm} | {_radius(norm, eps)}", len(batch), row


def large(chosen: argparse.Namespace) -> Iterable[tuple[str, int, Row]]:
    """A few steps of some parts on images of 224 px, at a radius at which all are robust."""
    count = 2 if chosen.tiny else 8
    model = rv.load_model("vit_tiny_patch16_224?weights=random", tile=count)
    images = rv.Draws(0, "large", [str(i) for i in range(count)]).uniform(3, *model.size)
    with torch.no_grad():
        batch = rv.Batch(images, model(images).argmax(dim=1), tuple(str(i) for i in range(count)))
    for part, steps in LARGE.items():
        steps = 2 if chosen.tiny else steps
        made = peer(model, "linf", 1e-5, version="custom", attacks=[PARTS[part]])
        made.apgd.n_iter, made.apgd.n_restarts, made.square.n_queries = steps, 1, steps
        made.fab.n_iter, made.fab.n_restarts, made.fab.n_target_classes = steps, 1, 1
        params = {"eps": 1e-5, "steps": steps, **({"targets": 1} if part == "fab_t" else {})}
        row = compared(model, batch, partial(attacked, model, batch, part, **params), partial(evaluated, made, batch), chosen.repeats)
        yield f"{part} | vit_tiny_patch16_224 | {steps}", count, row


def torchattacks(models: dict[str, rv.Classifier], chosen: argparse.Namespace) -> Iterable[tuple[str, int, Row]]:
    """Attacks of torchattacks at 2/255."""
    import torchattacks as library

    for name, model in models.items():
        batch, eps = classified(model, chosen.images), 2 / 255
        for theirs, (own, params, their) in TORCHATTACKS.items():
            made = getattr(library, theirs)(Plain(model), eps=eps, **their)
            torch.manual_seed(0)
            ours = partial(attacked, model, batch, own, eps=eps, **params)
            row = compared(model, batch, ours, partial(made, batch.images, batch.labels), chosen.repeats)
            yield f"{theirs}, {own} | {name} | 2/255", len(batch), row


def _settings(models: Iterable[str], chosen: argparse.Namespace) -> list[tuple[str, str, float]]:
    return [(name, norm, eps) for name in models for norm in chosen.norms for eps in RADII[norm][: 1 if chosen.tiny else None]]


def _radius(norm: str, eps: float) -> str:
    return f"{eps * 255:g}/255" if norm == "linf" else f"{eps:g}"


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--norms", nargs="+", default=list(RADII), choices=list(RADII))
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=SECTIONS)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="few samples, models and steps: seconds")
    chosen = parser.parse_args()
    if chosen.tiny:
        chosen.images, chosen.norms, chosen.models = 6, ["linf"], ["demo", "cnn"]
    torch.set_num_threads(1)
    models = {name: model_of(name) for name in chosen.models}
    if "floor" in chosen.only:
        floor(models, chosen)
    if "standard" in chosen.only:
        show("standard | norm | eps", standard(models, chosen))
    if "parts" in chosen.only:
        show("part | model | norm | eps", parts(models, chosen))
    if "torchattacks" in chosen.only:
        show("torchattacks | model | eps", torchattacks(models, chosen))
    if "large" in chosen.only:
        show("part | model | steps", large(chosen))


if __name__ == "__main__":
    main()
