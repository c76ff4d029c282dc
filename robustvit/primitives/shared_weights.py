"""A module for evaluation beside the one that is trained: the same weights in memory, a mode of its own."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from robustvit.errors import ModelError

_WHOLE = (torch.bool, torch.int16, torch.int32, torch.int64)  # weights of 8 bits are those of quantised layers
_OURS = "_robustvit_evaluates"  # the attribute of modules that nobody trains: those made here, and those that loaders made


def evaluated(module: nn.Module, label: str) -> nn.Module:
    """The module in evaluation mode without parameter gradients; the one given keeps its modes and gradients, now and later.

    Both have the same tensors: what an optimizer changes in place is seen here. Moving either of them to another device or dtype ends that.
    Raises ModelError for a module that holds something that cannot be copied. label: the model's name in that message.
    """
    return module if getattr(module, _OURS, False) and not _in_training(module) else shared_copy(module, label)


def shared_copy(module: nn.Module, label: str) -> nn.Module:
    """Another module of the same tensors, frozen in evaluation mode: its submodules can be replaced, and the given one stays as it is.

    Raises ModelError as `evaluated` does.
    """
    shared: dict[int, Any] = {id(tensor): _shared(tensor) for part in module.modules() for tensor in _tensors(part)}
    try:
        return owned(copy.deepcopy(module, shared))
    except (TypeError, RuntimeError, NotImplementedError, AttributeError) as error:
        raise ModelError(
            f"model '{label}': its {type(module).__name__} holds something that cannot be copied ({error}), and a Classifier leaves the "
            "module that it is given alone. Remove that, or write a function that builds the model and name it: package.module:factory."
        ) from error


def owned(module: nn.Module) -> nn.Module:
    """The very module, frozen in evaluation mode, as one that nobody trains: a loader has just made it for a Classifier."""
    module.eval().requires_grad_(False)
    setattr(module, _OURS, True)
    return module


def arithmetic_of(model: nn.Module, label: str) -> torch.dtype:
    """float64 for a model whose weights are, else float32.

    Raises ModelError for weights in half precision, which `precision` is for, and for weights without numbers.
    """
    empty = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if empty:
        raise ModelError(
            f"model '{label}': {len(empty)} of its parameters have no numbers, being on the meta device (first {empty[0]}). Load its "
            "weights first, by load_state_dict(…, assign=True)."
        )
    odd = {name: one.dtype for name, one in model.named_parameters() if one.is_complex() or one.dtype in _WHOLE}
    if odd:
        name, dtype = next(iter(odd.items()))
        raise ModelError(f"model '{label}': {len(odd)} of its weights are no real numbers (first {name}, {dtype}); give them as float32.")
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    half = dtypes & {torch.float16, torch.bfloat16}
    if half:
        raise ModelError(
            f"model '{label}' has weights of {half.pop()}; give them as float32 (`.float()`) and set --precision float16 or bfloat16."
        )
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _in_training(module: nn.Module) -> bool:
    return any(part.training for part in module.modules()) or any(one.requires_grad for one in module.parameters())


def _tensors(part: nn.Module) -> list[Tensor]:
    """The tensors that a module holds itself: parameters, buffers and what it keeps in attributes."""
    held = (*part._parameters.values(), *part._buffers.values(), *vars(part).values())
    return [one for one in held if isinstance(one, Tensor)]


def _shared(tensor: Tensor) -> Tensor:
    """The same memory under a tensor of its own, a parameter without gradient for a parameter."""
    if type(tensor) is nn.Parameter:
        return nn.Parameter(tensor.detach(), requires_grad=False)
    return tensor if isinstance(tensor, nn.Parameter) else tensor.detach()
