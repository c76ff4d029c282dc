"""Gradient attacks on one image, written from their papers: plain loops in float64, sharing no code with robustvit's attacks.

Each reference queries a `Sample` as the paper's algorithm does and stops at the first misclassified iterate where `early`. Random starts
are given to them. Where a paper and its authors' code differ, a comment says which is followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from trained import Array, Query

Loss = Callable[[Tensor], Tensor]
"""(K,) logits → the loss to be raised."""


def odds(label: int) -> Loss:
    """log (1 − p) − log p of the label."""

    def value(logits: Tensor) -> Tensor:
        others = torch.cat((logits[:label], logits[label + 1 :]))
        return (others.exp() / logits[label].exp()).sum().log()

    return value


def ce(label: int) -> Loss:
    """The cross-entropy of the label, − log p, as log (1 + (1 − p) / p), which float64 resolves where p is nearly 1."""
    return lambda logits: torch.log1p(odds(label)(logits).exp())


def ce_towards(target: int) -> Loss:
    """The cross-entropy of a target, negated."""
    return lambda logits: -ce(target)(logits)


def dlr(label: int) -> Loss:
    """Croce and Hein 2020, eq. 6."""

    def ratio(logits: Tensor) -> Tensor:
        first, second, third = sorted(logits, reverse=True)[:3]  # type: ignore[type-var]
        best = second if logits.argmax() == label else first
        return -(logits[label] - best) / (first - third)

    return ratio


def dlr_towards(label: int, target: int) -> Loss:
    """Croce and Hein 2020, eq. 7."""

    def ratio(logits: Tensor) -> Tensor:
        first, _, third, fourth = sorted(logits, reverse=True)[:4]  # type: ignore[type-var]
        return -(logits[label] - logits[target]) / (first - (third + fourth) / 2)

    return ratio


class Sample:
    """The model as a reference meets it for one image: every query is remembered in `path`."""

    def __init__(self, module: nn.Module, label: int) -> None:
        self.module, self.label, self.path, self.wrong = module, label, list[Query](), False

    def query(self, pixels: Array) -> Array:
        """The logits (K,) of an image (3, H, W)."""
        with torch.no_grad():
            logits: Array = self.module(torch.from_numpy(pixels)[None])[0].numpy()
        self.path.append(Query(pixels, None))
        self.wrong = bool(logits.argmax() != self.label)
        return logits

    def gradient(self, pixels: Array, loss: Loss, through: Callable[[Tensor], Tensor] | None = None) -> tuple[float, Array]:
        """The loss of an image, after `through`, and its gradient with respect to the pixels."""
        leaf = torch.from_numpy(pixels).requires_grad_(True)
        seen = leaf if through is None else through(leaf)
        logits = self.module(seen[None])[0]
        value = loss(logits).sum()
        gradient, pull = torch.autograd.grad(value, [leaf, logits])
        self.path.append(Query(seen.detach().numpy().copy(), pull.numpy()))
        self.wrong = int(logits.argmax()) != self.label
        return float(value.detach()), gradient.numpy()


def bisected(total: Callable[[float], float], radius: float, high: float) -> float:
    """The λ ≥ 0 at which a falling function reaches the radius."""
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle) > radius else (low, middle)
    return high


def in_ball(delta: Array, eps: float, norm: str) -> Array:
    """The nearest point of the ball."""
    if norm == "linf":
        return delta.clip(-eps, eps)
    if norm == "l2":
        return delta * min(1.0, eps / max(np.linalg.norm(delta), 1e-300))
    if np.abs(delta).sum() <= eps:
        return delta
    soft = bisected(lambda cut: np.maximum(np.abs(delta) - cut, 0).sum(), eps, np.abs(delta).max())
    return np.sign(delta) * np.maximum(np.abs(delta) - soft, 0)


def in_ball_and_box(image: Array, delta: Array, eps: float, norm: str) -> Array:
    """As `in_ball`, with image + delta in [0, 1]; in l1 the nearest point of both (Croce and Hein 2021), in l2 one after the other."""
    if norm != "l1":
        return (image + in_ball(delta, eps, norm)).clip(0, 1) - image
    room = np.where(delta > 0, 1 - image, image)

    def shrunk(cut: float) -> Array:
        return np.minimum(np.maximum(np.abs(delta) - cut, 0), room)

    cut = 0.0 if shrunk(0.0).sum() <= eps else bisected(lambda cut: shrunk(cut).sum(), eps, np.abs(delta).max())
    return np.sign(delta) * shrunk(cut)


def direction(gradient: Array, norm: str) -> Array:
    """The vector of norm 1 that raises a linear function most."""
    if norm == "linf":
        return np.sign(gradient)
    if norm == "l2":
        return gradient / np.linalg.norm(gradient)
    place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    found = np.zeros_like(gradient)
    found[place] = np.sign(gradient[place])
    return found


def fgsm(sample: Sample, image: Array, eps: float, norm: str) -> Array:
    """Goodfellow et al. 2015."""
    _, gradient = sample.gradient(image, ce(sample.label))
    moved = (image + eps * direction(gradient, norm)).clip(0, 1)
    sample.query(moved)
    return moved


def pgd(
    sample: Sample, image: Array, start: Array, loss: Loss, eps: float, norm: str, steps: int, size: float, early: bool = True
) -> Array:  # fmt: skip
    """Madry et al. 2018: from the start, steps of a fixed size, each followed by the projections onto ball and box."""
    at = start
    for _ in range(steps):
        _, gradient = sample.gradient(at, loss)
        if early and sample.wrong:
            return at
        at = (image + in_ball(at + size * direction(gradient, norm) - image, eps, norm)).clip(0, 1)
    sample.query(at)
    return at


PAPER_CHECKPOINTS = (22, 41, 57, 70, 80, 87, 93, 99)
"""Croce and Hein 2020, sec. 3: w_j = ceil(p_j · 100), p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06)."""


class Ascent:
    """The end of a run of APGD: its best iterate, and what its checks did, for tests that these happened."""

    def __init__(self) -> None:
        self.best, self.slow, self.stuck, self.kept = np.zeros(0), 0, 0, 0


def apgd(
    sample: Sample, image: Array, start: Array, loss: Loss, eps: float, norm: str, checkpoints: Sequence[int] = PAPER_CHECKPOINTS,
    steps: int = 100, alpha: float = 0.75, rho: float = 0.75,
) -> Ascent:  # fmt: skip
    """Croce and Hein 2020, algorithm 1, in linf and l2.

    Three details are their code's: exactly ρ of a window's steps is too few; the check for a best loss that did not improve begins at the
    second checkpoint; and after a return to the best iterate the next loss is compared with that of the last evaluated one.
    """

    def clipped(pixels: Array) -> Array:
        return image + in_ball_and_box(image, pixels - image, eps, norm)

    end, step = Ascent(), 2 * eps
    at = before = start.clip(0, 1)
    value, gradient = sample.gradient(at, loss)
    end.best, best_value, best_gradient = at, value, gradient
    values, first, checked, halved = [value], 0, value, True
    for turn in range(1, steps + 1):
        if sample.wrong:
            return end
        ahead = clipped(at + step * direction(gradient, norm))
        moved = ahead if turn == 1 else clipped(at + alpha * (ahead - at) + (1 - alpha) * (at - before))
        before, at = at, moved.clip(0, 1)
        value, gradient = sample.gradient(at, loss)
        values.append(value)
        if value > best_value:
            end.best, best_value, best_gradient = at, value, gradient
        if turn in checkpoints:
            rises = sum(values[i + 1] > values[i] for i in range(first, turn))
            slow, stuck = rises <= rho * (turn - first), not halved and best_value == checked
            end.slow, end.stuck, end.kept = end.slow + slow, end.stuck + (stuck and not slow), end.kept + (not slow and not stuck)
            halved, checked, first = slow or stuck, best_value, turn
            if halved:
                step, at, gradient = step / 2, end.best, best_gradient
    return end


def apgd_l1_ball(sample: Sample, image: Array, start: Array, loss: Loss, eps: float, steps: int, budget: float | None) -> Ascent:
    """Croce and Hein 2021, in one ball: sparse steps whose size and share of coordinates adapt every 4 % of the steps.

    budget: where the ball is larger than the budget, that; the iterate is then also projected onto the budget and queried after 0, 1, 2,
    4, … steps, which the paper does not do, and its own iterates are no candidates.
    """
    end, step, every = Ascent(), eps, max(int(0.04 * steps), 1)
    at = end.best = start.clip(0, 1)
    value, gradient = sample.gradient(at, loss)
    best_value, best_gradient = value, gradient
    nonzero = int((at != image).sum())
    share, wrong = nonzero / image.size / 1.5, sample.wrong and budget is None
    for turn in range(1, steps + 1):
        if budget is not None and turn - 1 in (0, 1, 2, 4, 8, 16, 32, 64):
            sample.query(image + in_ball_and_box(image, at - image, budget, "l1"))
            wrong = sample.wrong
        sample.wrong = wrong
        if wrong:
            return end
        order = np.sort(np.abs(gradient).ravel())
        least = order[min(int((1 - share) * image.size), image.size - 1)]
        chosen = np.where(np.abs(gradient) >= least, np.sign(gradient), 0)
        at = (image + in_ball_and_box(image, at + step * chosen / np.abs(chosen).sum() - image, eps, "l1")).clip(0, 1)
        value, gradient = sample.gradient(at, loss)
        wrong = sample.wrong and budget is None
        if value > best_value:
            end.best, best_value, best_gradient = at, value, gradient
        if turn % every == 0:
            now = int((end.best != image).sum())
            share = now / image.size / 1.5
            if now / nonzero < 0.95:
                step, at, gradient = eps, end.best, best_gradient
                end.slow += 1
            else:
                step = max(step / 1.5, eps / 10)
                end.kept += 1
            nonzero = now
    sample.wrong = wrong
    return end


Rule = Callable[[Sample, Array, int], Array]
"""A sample, the point at which the gradient is wanted, and the number of the step → the gradient that momentum gathers."""


def plain(sample: Sample, at: Array, turn: int) -> Array:
    """The gradient of the cross-entropy."""
    return sample.gradient(at, ce(sample.label))[1]


def momentum_iterations(
    sample: Sample, image: Array, rule: Rule, eps: float, norm: str, steps: int, size: float, decay: float = 1.0,
    early: bool = True, ahead: bool = False, extra: bool = False,
) -> Array:  # fmt: skip
    """MI-FGSM (Dong et al. 2018, algorithm 1), with the mean of absolute values in place of the l1 norm, as all public code has it.

    ahead: NI-FGSM (Lin et al. 2020, algorithm 1): the gradient is taken at x + step · decay · momentum. extra: each iterate is queried by
    itself, because the gradient is taken elsewhere.
    """
    at, gathered = image, np.zeros_like(image)
    for turn in range(steps):
        gradient = rule(sample, (at + size * decay * gathered).clip(0, 1) if ahead else at, turn)
        if early and not extra and turn and sample.wrong:
            return at
        gathered = decay * gathered + gradient / np.abs(gradient).mean()
        at = (image + in_ball(at + size * direction(gathered, norm) - image, eps, norm)).clip(0, 1)
        if extra:
            sample.query(at)
            if early and sample.wrong:
                return at
    if not extra:
        sample.query(at)
    return at


def scaled_copies(count: int) -> Rule:
    """SI (Lin et al. 2020, eq. 8): the mean gradient over the image divided by 1, 2, 4, …; of log odds, so that all weigh alike."""

    def rule(sample: Sample, at: Array, turn: int) -> Array:
        total = np.zeros_like(at)
        for i in range(count):
            total = total + sample.gradient(at, odds(sample.label), lambda pixels, i=i: pixels / 2**i)[1]  # type: ignore[misc]
        return total / count

    return rule


def resized(pixels: Tensor, numbers: Array, chance: float, smallest: float) -> Tensor:
    """DI (Xie et al. 2019) of an image (3, H, W): reduced by nearest neighbour and zero-padded at random, with a probability."""
    if numbers[0] >= chance:
        return pixels
    side = pixels.shape[1]
    size = round(side * (smallest + (1 - smallest) * float(numbers[1])))
    top, left = (int(float(one) * (side - size + 1)) for one in numbers[2:])
    out = torch.zeros_like(pixels)
    for row in range(size):
        for column in range(size):
            out[:, top + row, left + column] = pixels[:, row * side // size, column * side // size]
    return out


def translated(width: int, sigma: float) -> Rule:
    """TI (Dong et al. 2019, eq. 9): the gradient convolved with a Gaussian kernel that sums to 1."""

    def rule(sample: Sample, at: Array, turn: int) -> Array:
        gradient, half = plain(sample, at, turn), width // 2
        kernel = np.array([[np.exp(-(i * i + j * j) / (2 * sigma**2)) for j in range(-half, half + 1)] for i in range(-half, half + 1)])
        kernel /= kernel.sum()
        padded = np.pad(gradient, ((0, 0), (half, half), (half, half)))
        out = np.zeros_like(gradient)
        for i in range(width):
            for j in range(width):
                out += kernel[i, j] * padded[:, i : i + at.shape[1], j : j + at.shape[2]]
        return out

    return rule
