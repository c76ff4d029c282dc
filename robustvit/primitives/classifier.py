"""A model behind one door: pixels in [0, 1] go in, float32 logits come out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from robustvit.errors import BadParameter, ModelError
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference import tiling as tiles
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.pixels import check_pixels, pixels
from robustvit.spec.view import View

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ROUNDING = 1e-3  # relative; what a device that adds in any order may move logits by
_LARGEST_TILE = 16_384  # rows; more would ask any machine for more memory than it has


class Classifier(nn.Module):
    """A frozen, evaluating model with its normalisation and its view.

    model: a module from normalised (N, 3, H, W) to (N, K) logits. mean, std: per channel. view: how pictures are brought to its size.
    tile: rows the model sees at once; fewer are padded with zeros, so that a row's logits do not depend on its companions.
    Calling it: (N, 3, H, W) float in [0, 1] → (N, K) float32 logits. Raises PixelRange for anything else in the pixels, ModelError for
    another image size. Made `.double()`, it computes and answers in float64. `gradient` says what its input gradients are: `exact`, or `straight-through`
    where a transform put a surrogate in the place of something that has none. `manner` names what is done to its arithmetic from outside while it
    answers (`attention.softened`), as a rule nothing.
    """

    gradient: str = "exact"

    def __init__(
        self,
        model: nn.Module,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        view: View,
        card: Card,
        tile: int = 16,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise BadParameter(f"mean and std take three channels with std > 0; got mean {mean}, std {std}.")
        self.model = model.eval().requires_grad_(False)
        exact = _arithmetic_of(model, card.label)
        self.register_buffer("mean", torch.tensor(mean, dtype=exact).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=exact).view(1, 3, 1, 1), persistent=False)
        self.view = view
        self.card = card
        self.tile: int = tile
        self.precision: str = precision
        self._outputs: dict[tuple[int, int], int] = {}
        self._sparing = self._unbounded = False
        self.manner = ""
        self.configure(tile=tile, precision=precision)

    def configure(self, *, tile: int | None = None, precision: str | None = None) -> Classifier:
        """Sets rows per tile and arithmetic precision; returns itself."""
        if tile is not None and not 1 <= tile <= _LARGEST_TILE:
            raise BadParameter(f"--batch-size is {tile}; it takes 1 to {_LARGEST_TILE} rows.")
        if precision is not None and precision not in PRECISIONS:
            raise BadParameter(f"precision '{precision}' is unknown; it takes {', '.join(PRECISIONS)}.")
        self.tile = tile or self.tile
        self.precision = precision or self.precision
        return self

    @contextlib.contextmanager
    def precisely(self) -> Iterator[None]:
        """For the length of a block it, and what it stands before, computes in float32."""
        changed = [(one, one.precision) for one in self.modules() if isinstance(one, Classifier)]
        for one, _ in changed:
            one.precision = "float32"
        try:
            yield
        finally:
            for one, before in changed:
                one.precision = before

    @contextlib.contextmanager
    def sparingly(self) -> Iterator[None]:
        """For the length of a block a few rows may go through smaller tiles than `tile`, where a probe shows that this changes no bit (`tiles`).

        For scenarios that ask of ever fewer samples many times over. The first rows of a size cost a probe.
        """
        changed = [one for one in self.modules() if isinstance(one, Classifier) and not one._sparing]
        for one in changed:
            one._sparing = True
        try:
            yield
        finally:
            for one in changed:
                one._sparing = False

    @contextlib.contextmanager
    def anywhere(self) -> Iterator[None]:
        """For the length of a block pixels outside [0, 1] are let through: smoothing adds noise to pictures and does not cut it off."""
        changed = [one for one in self.modules() if isinstance(one, Classifier) and not one._unbounded]
        for one in changed:
            one._unbounded = True
        try:
            yield
        finally:
            for one in changed:
                one._unbounded = False

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """For the length of a block its module computes as it does behind this classifier, for whoever asks the module itself.

        A class that changes how the module computes, and neither what it is shown nor what becomes of its answers, says so by overriding this.
        """
        yield

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images it takes."""
        return self.view.size

    @property
    def outputs(self) -> int:
        """How many logits it gives. Asked of the model itself, once for each size.

        Raises ModelError where it refuses images of its view, or answers the same pixels differently.
        """
        if self.size not in self._outputs:
            blank = torch.zeros(min(self.tile, 2), 3, *self.size, device=self.device)
            try:
                with torch.no_grad():
                    first, second = self._logits(blank), self._logits(blank)
                self._outputs[self.size] = first.shape[1]
            except (AssertionError, RuntimeError, ValueError) as error:
                height, width = self.size
                raise ModelError(
                    f"model '{self.card.label}' does not take images of {height}x{width} pixels, which its view asks for: {error} "
                    f"Choose the view's size with --img-size, or build the model for it with ?kwargs=img_size={height}."
                ) from error
            self._refuse_chance(first, second)
        return self._outputs[self.size]

    def _refuse_chance(self, first: Tensor, second: Tensor) -> None:
        """Raises ModelError where two answers to the same pixels differ by more than rounding, and the class has no `bound` of its own to key that chance."""
        if type(self).bound is not Classifier.bound:
            return
        apart = float((first - second).abs().max()) if first.shape == second.shape else float("inf")
        if apart > _ROUNDING * (1.0 + float(first.abs().max())):
            raise ModelError(
                f"model '{self.card.label}' answers the same pixels differently each time (logits {apart:.3g} apart): something in it draws random numbers, such as "
                "dropout that is left on. No number of it could be made again. Turn that off, or make a Classifier whose `bound(draws)` draws from the samples."
            )

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.mean.device  # type: ignore[return-value]

    def train(self, mode: bool = True) -> Classifier:
        """Stays in evaluation mode: a Classifier is for judging. Train the module you built it from."""
        return super().train(False)

    def bound(self, draws: Draws) -> Classifier:
        """This model with its randomness bound to the samples of `draws`; a deterministic model is itself."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, K) float32 logits."""
        self._check(images)
        if len(images) == 0:
            return self._tile(images.new_zeros(self.tile, *images.shape[1:]))[:0]
        return torch.cat([self._tile(part)[: len(part)] for part in torch.split(images, self.tile)])

    def _check(self, images: Tensor) -> None:
        if images.dim() != 4 or images.shape[1] != 3 or tuple(images.shape[2:]) != self.size:
            wanted = f"(N, 3, {self.size[0]}, {self.size[1]})"
            raise ModelError(f"model '{self.card.label}' takes images of shape {wanted}; these are {tuple(images.shape)}.")
        if not self._unbounded:
            check_pixels(images, f"the images given to model '{self.card.label}'")

    def _tile(self, images: Tensor) -> Tensor:
        rows = tiles.enough(self._logits, images, self.tile, self._arithmetic) if self._sparing else self.tile
        if len(images) < rows:
            images = torch.cat((images, images.new_zeros(rows - len(images), *images.shape[1:])))
        return self._logits(images)

    @property
    def _arithmetic(self) -> tuple[Any, ...]:
        """What decides how the model computes, besides its weights."""
        return self.model, self.tile, self.precision, str(self.device), self.size, torch.get_num_threads(), self.manner

    def _logits(self, images: Tensor) -> Tensor:
        normal = (images.to(self.mean.dtype) - self.mean) / self.std  # type: ignore[operator,arg-type]
        dtype = PRECISIONS[self.precision]
        cast = torch.autocast(self.device.type, dtype=dtype) if dtype is not torch.float32 else contextlib.nullcontext()
        with cast:
            logits = self.model(normal)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            raise ModelError(f"model '{self.card.label}' must return logits of shape (N, K); it returned {_shape(logits)}.")
        return logits if logits.dtype == torch.float64 else logits.float()

    def preprocess(self, image: Any) -> Tensor:
        """A picture as (3, H, W) float32 in [0, 1], through this model's view: a Pillow image, or a Sample's RGB uint8 (H, W, 3)."""
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        return pixels(np.array(self.view.look(image))[None], self.device)[0]

    def identify(self) -> Classifier:
        """Names its weights as they are now, which may not be those that it was loaded with; returns itself."""
        self.card = replace(self.card, fingerprint=fingerprint(self.model))
        return self

    def relabel(self, label: str) -> Classifier:
        """Sets the name that tables show; returns itself."""
        self.card = replace(self.card, label=label)
        return self


def _arithmetic_of(model: nn.Module, label: str) -> torch.dtype:
    """float64 for a model whose weights are, else float32. Raises ModelError for weights in half precision, which `precision` is for."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    half = kinds & {torch.float16, torch.bfloat16}
    if half:
        raise ModelError(
            f"model '{label}' has weights of {half.pop()}; give them as float32 (`.float()`) and ask for --precision float16 or bfloat16."
        )
    return torch.float64 if torch.float64 in kinds else torch.float32


def channels(buffer: Any) -> tuple[float, ...]:
    """A mean or std as it was given: one number per channel."""
    return tuple(buffer.flatten().tolist())


def _shape(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """The module in evaluation mode without parameter gradients for the length of a block; afterwards as it was."""
    modes = {name: module.training for name, module in model.named_modules()}
    grads = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.eval().requires_grad_(False)
    try:
        yield model
    finally:
        for name, module in model.named_modules():
            module.training = modes[name]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(grads[name])
