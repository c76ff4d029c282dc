"""The Classifier: a model with its normalisation and view, from pixels in [0, 1] to float32 logits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from robustvit.errors import BadParameter, ModelError, with_article
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.forward_modes import EAGER
from robustvit.primitives.inference.tiling import smallest_exact_size
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.modules.given_module import given_module
from robustvit.primitives.modules.model_output import checked_logits
from robustvit.primitives.modules.unkeyed_randomness import check_deterministic
from robustvit.primitives.pixels import check_pixels, pixels
from robustvit.primitives.shared_weights import arithmetic_of, evaluated
from robustvit.spec.view import View
from robustvit.spec.written.facts_table import facts_table

PRECISIONS: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LARGEST_TILE = 16_384  # rows; more would ask any machine for more memory than it has


class Classifier(nn.Module):
    """A frozen model in evaluation mode, with its normalisation and its view.

    model: a module from normalised (N, 3, H, W) to (N, K) logits. It is left alone: the Classifier has its weights, as they are at every
    call, and a mode of its own. A single logit is that of the second of two classes. mean, std: a number, or one per channel, three for
    RGB. size: in pixels, of squares or as (height, width); above 64 px the short side of an image is resized to 8/7 of it and the centre
    taken. view: in place of size, how images are brought to it. name: in tables, default the class's; card: all about it. What is not
    given is read from timm's `pretrained_cfg`, or else is ImageNet's mean and std and 224 px, which a run tells. tile: rows of one forward
    pass; fewer are padded with zeros, so that a row's logits do not depend on the other rows. Calling it: (N, 3, H,
    W) float in [0, 1] → (N, K) float32 logits. Raises PixelRange for pixels outside [0, 1], ModelError for another image size. After
    `.double()` it computes in float64 and returns float64. `gradient` names the kind of its input gradients: `exact`, or
    `straight-through` where a transform put a surrogate in the place of something that has none. `arithmetic_tag` names temporary changes
    to how the module computes, such as an attention temperature; "" as a rule.
    """

    gradient: str = "exact"
    context_only: bool = False  # of a class that wraps another: whether all that it adds is `module_context`
    origin: Any = None  # of a transformed one: what it was made of, see robustvit.evaluation.pipelines.transformed
    learned: tuple[Mapping[str, Tensor], ...] = ()
    """For each transform that made its module, those in a checkpoint first, the tensors that it learned of other samples."""

    def __init__(
        self,
        model: nn.Module,
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        size: int | tuple[int, int] | None = None,
        name: str | None = None,
        view: View | None = None,
        card: Card | None = None,
        tile: int = 16,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        model, mean, std, view, card = given_module(model, mean, std, view, card, size, name)
        if not mean or len(mean) != len(std) or min(std) <= 0 or not np.isfinite([*mean, *std]).all():
            raise BadParameter(f"mean and std take a number for each channel, equally many, with std > 0; got mean {mean}, std {std}.")
        exact = arithmetic_of(model, card.label)
        self.model = evaluated(model, card.label)
        self.register_buffer("mean", torch.tensor(mean, dtype=exact).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=exact).view(1, -1, 1, 1), persistent=False)
        self.view = view
        self.card = card
        self.tile: int = tile
        self.precision: str = precision
        self._outputs: dict[tuple[int, int], int] = {}
        self._small_tiles = self._unbounded = self._in_mode = False
        self.forward_mode = EAGER
        self.arithmetic_tag = ""
        self.configure(tile=tile, precision=precision)

    def configure(self, *, tile: int | None = None, precision: str | None = None) -> Classifier:
        """Sets rows per tile and arithmetic precision; returns itself."""
        if tile is not None and (not isinstance(tile, int) or not 1 <= tile <= _LARGEST_TILE):
            raise BadParameter(f"--batch-size is {tile}; it takes 1 to {_LARGEST_TILE} rows.")
        if precision is not None and precision not in PRECISIONS:
            raise BadParameter(f"precision '{precision}' is unknown; it takes {', '.join(PRECISIONS)}.")
        self.tile = tile or self.tile
        self.precision = precision or self.precision
        return self

    def in_float32(self) -> contextlib.AbstractContextManager[None]:
        """Context in which it, and every Classifier that it wraps, computes in float32 whatever its `precision`."""
        return temporarily(self, "precision", lambda _: "float32")

    def with_small_tiles(self) -> contextlib.AbstractContextManager[None]:
        """Context in which a few rows may go through smaller tiles than `tile`, where a probe shows that no bit changes (`tiling`).

        For scenarios that query the model many times with ever fewer samples. The first batches of a size pay for a probe.
        """
        return temporarily(self, "_small_tiles", lambda _: True)

    def in_forward_mode(self) -> contextlib.AbstractContextManager[None]:
        """Context in which passes without gradients follow its `forward_mode`, to which what changes a module meanwhile is invisible."""
        return temporarily(self, "_in_mode", lambda _: True)

    def unbounded_pixels(self) -> contextlib.AbstractContextManager[None]:
        """Context in which pixels outside [0, 1] are accepted: randomised smoothing adds noise to images without clipping."""
        return temporarily(self, "_unbounded", lambda _: True)

    def module_context(self) -> contextlib.AbstractContextManager[None]:
        """Context in which calling `self.model` directly computes as it does within this classifier.

        Override it in a class that changes how the module computes, and neither its input nor its output.
        """
        return contextlib.nullcontext()

    @property
    def channels(self) -> int:
        """How many channels the images have that it takes: as many as its mean."""
        return int(self.mean.numel())  # type: ignore[operator]

    def require_rgb(self, data: str) -> None:
        """Raises ModelError unless it takes RGB images, which data sets have. data: its name in the message."""
        if self.channels != 3:
            raise ModelError(
                f"model '{self.card.label}' takes images of {self.channels} channels, and data '{data}' has RGB images, which nothing here "
                "converts unasked. Write a module that converts, for instance to grey by 0.299 R + 0.587 G + 0.114 B as Pillow does, gives "
                "the model that, and takes RGB itself."
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images it takes."""
        return self.view.size

    @property
    def outputs(self) -> int:
        """The number of logits, found by forward passes of blank images, once for each size.

        Raises ModelError where the model refuses images of its view, or returns different logits for the same pixels.
        """
        if self.size not in self._outputs:
            blank = torch.zeros(min(self.tile, 2), self.channels, *self.size, device=self.device)
            try:
                with torch.no_grad():
                    first, second = self._logits(blank), self._logits(blank)
                self._outputs[self.size] = first.shape[1]
            except (AssertionError, RuntimeError, ValueError) as error:
                height, width = self.size
                told = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".:")
                raise ModelError(
                    f"model '{self.card.label}' raised {told}. It was given images of {height}x{width} pixels, as its view says. If it "
                    "takes another size, choose the view's with --img-size, for a module of yours by rv.Classifier(module, size=…), or "
                    f"build the model for this one with ?kwargs=img_size={height}."
                ) from error
            if type(self).bound is Classifier.bound:  # else it keys its randomness
                check_deterministic(first, second, self.card.label)
        return self._outputs[self.size]

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self.mean.device  # type: ignore[return-value]

    def train(self, mode: bool = True) -> Classifier:
        """Stays in evaluation mode: a Classifier is for evaluation. Train the module that you built it from; it sees those weights."""
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
        if not isinstance(images, Tensor):
            raise BadParameter(f"a Classifier takes a tensor (N, C, H, W); this is {with_article(type(images).__name__)}.")
        if images.dim() != 4 or images.shape[1] != self.channels or tuple(images.shape[2:]) != self.size:
            wanted = f"(N, {self.channels}, {self.size[0]}, {self.size[1]})"
            raise ModelError(f"model '{self.card.label}' takes images of shape {wanted}; these are {tuple(images.shape)}.")
        if not self._unbounded:
            check_pixels(images, f"the images given to model '{self.card.label}'")

    def _tile(self, images: Tensor) -> Tensor:
        rows = smallest_exact_size(self._logits, images, self.tile, self._arithmetic) if self._small_tiles else self.tile
        if len(images) < rows:
            images = torch.cat((images, images.new_zeros(rows - len(images), *images.shape[1:])))
        return self._logits(images)

    @property
    def _arithmetic(self) -> tuple[Any, ...]:
        """The module, and all that decides how it computes besides its weights."""
        return self.model, self.tile, self.precision, str(self.device), self.size, torch.get_num_threads(), self.arithmetic_tag

    def _logits(self, images: Tensor) -> Tensor:
        normal = (images.to(self.mean.dtype) - self.mean) / self.std  # type: ignore[operator,arg-type]
        dtype = PRECISIONS[self.precision]
        cast = torch.autocast(self.device.type, dtype=dtype) if dtype is not torch.float32 else contextlib.nullcontext()
        mode = self.forward_mode if self._in_mode and not torch.is_grad_enabled() else EAGER
        with cast:
            output = mode.call(self.model, normal)
        return checked_logits(output, len(images), self.card.label)

    def preprocess(self, image: Any) -> Tensor:
        """An image as (3, H, W) float32 in [0, 1], after this model's view. image: a Pillow image, or a Sample's RGB uint8 (H, W, 3)."""
        self.require_rgb("preprocess")
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        return pixels(np.array(self.view.apply(image))[None], self.device)[0]

    def identify(self) -> Classifier:
        """Sets the fingerprint to that of its present weights, which may differ from those that it was loaded with; returns itself."""
        self.card = replace(self.card, fingerprint=fingerprint(self.model))
        return self

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        card = self.card
        steps = " → ".join(map(str, card.transforms))
        return facts_table(card.label, {
            "view": self.view, "channels": self.channels, "parameters": f"{card.parameters:,}", "weights": card.weights, "tag": card.tag,
            "transforms": steps, "classes": len(card.classes) or "", "gradient": self.gradient, "device": self.device,
            "precision": self.precision, "fingerprint": card.fingerprint, "licence": card.licence,
        })  # fmt: skip

    def relabel(self, label: str) -> Classifier:
        """Sets its name in tables; returns itself."""
        self.card = replace(self.card, label=label)
        return self


@contextlib.contextmanager
def temporarily(model: nn.Module, attribute: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """Context in which an attribute of every Classifier in the model is `change(value)`; afterwards it is restored."""
    before = [(module, getattr(module, attribute)) for module in model.modules() if isinstance(module, Classifier)]
    for module, value in before:
        setattr(module, attribute, change(value))
    try:
        yield
    finally:
        for module, value in before:
            setattr(module, attribute, value)
