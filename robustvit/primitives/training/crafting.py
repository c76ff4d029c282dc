"""Making adversarial images during training without a trace in the model that is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from robustvit.errors import ModelError
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws

Mode: TypeAlias = Literal["eval", "train"]


def crafted_by(
    craft: Callable[[nn.Module, Batch, Draws], Tensor], model: nn.Module, batch: Batch, draws: Draws, mode: Mode = "eval"
) -> Tensor:  # fmt: skip
    """The images that `craft` makes of a batch, (N, 3, H, W) without a graph; the model is afterwards as it was before.

    While it runs, parameters need no gradients and every module is in `mode`. No gradient, buffer or mode of the model moves, and no number
    is taken from torch's global generators. Raises ModelError for images of another shape, and for any that are not numbers.
    """
    with untouched(model, mode, batch.images.device):
        made = craft(model, batch, draws).detach()
    if made.shape != batch.images.shape:
        raise ModelError(f"the adversarial images have the shape {tuple(made.shape)}; those of the batch {tuple(batch.images.shape)}.")
    if not bool(made.isfinite().all()):
        raise ModelError("some adversarial images are not numbers: the gradients that they follow are infinite. Lower lr or eps.")
    return made


@contextlib.contextmanager
def untouched(model: nn.Module, mode: Mode, device: torch.device) -> Iterator[None]:
    """Context in which a model is in `mode` and gives gradients of its input alone; afterwards all of it is as before."""
    modes = [(module, module.training) for module in model.modules()]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.train(mode == "train")
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        with torch.no_grad():
            for buffer, kept in buffers:
                if not torch.equal(buffer, kept):  # what a graph of the caller holds may not be written to, even with the same numbers
                    buffer.copy_(kept)
        for parameter in trained:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training
