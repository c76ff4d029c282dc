"""How much of the model that a victim was made from is still in it."""

from __future__ import annotations

import torch
from torch import Tensor

from robustvit.errors import ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import tensors_digest
from robustvit.primitives.surgery.layer_roles import head_layers


def share_changed(victim: Classifier, backbone: Classifier) -> float:
    """The share of the backbone's parameters, its head left out, that differ in the victim or are missing there, in [0, 1].

    A tensor is compared, number by number, with the victim's of the same name and shape, also one in a part of the victim
    (`backbone.blocks.0.…`), and where there is none, whole, with any of the same numbers. 0 for a linear probe, whatever was added beside
    its frozen weights; nearly 1 for full fine-tuning; rounding to another type counts as a difference. Raises ModelError for a backbone
    that has no parameter but its head's.
    """
    head = {id(one) for layer in head_layers(backbone.model) for one in layer.layer.parameters()}
    wanted = {name: one.detach() for name, one in backbone.model.named_parameters() if id(one) not in head}
    own = {name: one.detach() for name, one in victim.model.state_dict().items() if isinstance(one, Tensor)}
    total = sum(one.numel() for one in wanted.values())
    if not total:
        raise ModelError(f"model '{backbone.card.label}' has no parameters but those of its head: nothing of it can be in another.")
    known = {_digest(one) for one in own.values()}
    return sum(_differing(name, one, own, known) for name, one in wanted.items()) / total


def _differing(name: str, tensor: Tensor, own: dict[str, Tensor], known: set[str]) -> int:
    """How many numbers of a tensor of the backbone are not in the victim."""
    named = [one for key, one in own.items() if (key == name or key.endswith(f".{name}")) and one.shape == tensor.shape]
    if not named:
        return 0 if _digest(tensor) in known else tensor.numel()
    return min(int((one.to(tensor.device) != tensor).sum()) for one in named)


def _digest(tensor: Tensor) -> str:
    return tensors_digest({"": torch.as_tensor(tensor)})
