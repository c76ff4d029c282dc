"""What a model with its transforms costs for one image: operations, weights as stored, bytes moved, and on request its latency."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from robustvit.evaluation.cost.macs import count, of_shapes
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.surgery.recorded.token_records import recorded_costs, reduces_tokens

_UNCOUNTABLE = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError)  # of tensors without numbers


@dataclass(frozen=True)
class PipelineCosts:
    """The costs of one image through a model with its transforms.

    macs: multiply-accumulate operations, of a token reducer as its papers count them, of sparse products those of entries that are not zero
    (modules tell what they skip by `skipped_macs`); None where they depend on the image or cannot be counted, and `reason` says why.
    parameters: of its tensors, a shared one once. weight_bytes: of the weights as they are stored, packed
    bits and bitmaps of zeros among them. moved_bytes: these once, and what every operation reads and writes of activations, none fused;
    None as macs. peak_bytes: the most bytes of activations that are needed at once, which the memory of a microcontroller has to hold; None
    as macs. latency: seconds, where it was measured. gradient: what its input gradients are.
    """

    macs: int | None
    parameters: int
    weight_bytes: int
    moved_bytes: int | None
    peak_bytes: int | None
    gradient: str
    latency: float | None = None
    reason: str = ""

    def facts(self) -> dict[str, Any]:
        """What is known, by name, as a manifest keeps it."""
        return {key: value for key, value in vars(self).items() if value not in (None, "")}


def costs_of(model: Classifier, *, latency: bool = False) -> PipelineCosts:
    """The costs of an image through a Classifier with its transforms. latency: whether to measure it, which takes seconds."""
    module: nn.Module = model.model
    counted = count(module, model.size, model.channels)
    macs = counted.macs if counted.macs is None else _by_tokens(model) or counted.macs - skipped_macs(module)
    weights = stored_bytes(module)
    bytes_of = None if counted.macs is None else activation_bytes(module, model.size, model.channels)
    return PipelineCosts(
        macs=macs, parameters=sum(tensor.numel() for tensor in _once(module.parameters())), weight_bytes=weights,
        moved_bytes=None if bytes_of is None else bytes_of.moved + weights, peak_bytes=None if bytes_of is None else bytes_of.peak,
        gradient=model.gradient,
        latency=seconds_per_image(model) if latency else None, reason=counted.reason,
    )  # fmt: skip


def _by_tokens(model: Classifier) -> int | None:
    """The operations of an image as papers on token reduction count them, of a model whose tokens do not depend on it; else None.

    Without the products by which tokens are chosen and merged, which torch counts, too.
    """
    if not reduces_tokens(model):
        return None
    blank = torch.zeros(1, model.channels, *model.size, device=model.device)
    with torch.no_grad(), recorded_costs(model, 1) as found:
        model(blank)
    return round(1e9 * float(found["value_gmacs"][0]))


def skipped_macs(module: nn.Module) -> int:
    """The operations on one image that torch counts in a module and a kernel for sparse products leaves out: what its parts say."""
    stated = (getattr(part, "skipped_macs", None) for part in module.modules())
    return sum(int(skipped()) for skipped in stated if skipped is not None)


def stored_bytes(module: nn.Module) -> int:
    """The bytes of a module's weights as they are stored: of a layer that has a method `weight_bytes` what it says, else of its tensors."""
    total, seen = 0, set[int]()
    for part in module.modules():
        own = [tensor for tensor in (*part._parameters.values(), *part._buffers.values()) if tensor is not None]
        fresh = [tensor for tensor in own if id(tensor) not in seen]
        stated = getattr(part, "weight_bytes", None)
        if stated is None:
            total += sum(tensor.numel() * tensor.element_size() for tensor in fresh)
        elif fresh or not own:
            total += int(stated())
        seen |= {id(tensor) for tensor in own}
    return total


class ActivationBytes(NamedTuple):
    """Of the operations on one image, weights not counted. moved: what they read and write; peak: what is needed at once at most."""

    moved: int
    peak: int


def activation_bytes(module: nn.Module, size: tuple[int, int], channels: int = 3) -> ActivationBytes | None:
    """The bytes of activations that the operations on one image move and need; None where that needs numbers.

    A view moves nothing and needs nothing of its own. An operation needs what it reads, what it writes, and what is read later, the image
    among it. Counted on shapes alone, for float32, one operation after another.
    """
    try:
        shapes, image = of_shapes(module).eval(), torch.empty(1, channels, *size, device="meta")
        with torch.no_grad(), _Activations(shapes, image) as found:
            shapes(image)
    except _UNCOUNTABLE:
        return None
    return ActivationBytes(int(found.moved), int(found.peak))


def seconds_per_image(model: Classifier) -> float:
    """The latency of an image in a full tile on this machine, in seconds: the median over at least half a second of forward passes."""
    from torch.utils.benchmark import Timer

    images = torch.zeros(model.tile, model.channels, *model.size, device=model.device)
    with torch.no_grad():
        timer = Timer("model(images)", globals={"model": model, "images": images}, num_threads=torch.get_num_threads())
        return float(timer.blocked_autorange(min_run_time=0.5).median) / model.tile


class _Activations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of tensors that operations read and write, and watches which are alive, without a module's own."""

    def __init__(self, module: nn.Module, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = self.peak = 0
        self._own = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._watch([image])

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.moved += sum(map(self._bytes, (*_tensors(args), *_tensors(found))))
        self._watch(_tensors(found))
        return found

    def _watch(self, made: Iterable[Tensor]) -> None:
        for storage in (tensor.untyped_storage() for tensor in made):
            if storage._cdata not in self._own and storage._cdata not in self._alive:
                self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]
        self._alive = {key: one for key, one in self._alive.items() if not one[0].expired()}  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))

    def _bytes(self, tensor: Tensor) -> int:
        return 0 if tensor.untyped_storage()._cdata in self._own else tensor.numel() * tensor.element_size()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _once(tensors: Iterator[Tensor]) -> Iterator[Tensor]:
    return iter({id(tensor): tensor for tensor in tensors}.values())
