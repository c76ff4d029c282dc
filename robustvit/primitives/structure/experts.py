"""Mixtures of experts that need no router: MLPs between which tokens are divided at random, and that become one again."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Experts(nn.Module):
    """Copies of an MLP, each of which computes an equal share of a batch's tokens, divided anew in every forward pass of training.

    The division is uniformly random, by torch's generator, as dropout is; where tokens cannot be divided equally, the first experts have
    one more. In evaluation, and where there is one expert, it computes what the MLP of their mean weights does.
    """

    def __init__(self, mlp: nn.Module, count: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(copy.deepcopy(mlp) for _ in range(count))

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, D) → (N, T, D)."""
        if not self.training or len(self.experts) == 1:
            found: Tensor = torch.func.functional_call(self.experts[0], self.mean_weights(), (tokens,))
            return found
        flat = tokens.flatten(0, -2)
        order = torch.randperm(len(flat), device=flat.device)
        parts = order.tensor_split(len(self.experts))
        made = torch.cat([expert(flat[part]) for expert, part in zip(self.experts, parts, strict=True)])
        return made[order.argsort()].view(*tokens.shape[:-1], -1)

    def mean_weights(self) -> dict[str, Tensor]:
        """The mean of the experts' parameters, by name; of one expert its very own."""
        named = [dict(expert.named_parameters()) for expert in self.experts]
        return {name: one if len(named) == 1 else torch.stack([each[name] for each in named]).mean(dim=0) for name, one in named[0].items()}

    @torch.no_grad()
    def average(self, share: float) -> None:
        """Moves every expert towards the mean of the others: w ← (1 − share) · w + share · mean of the others' w."""
        if share == 0 or len(self.experts) == 1:
            return
        for tensors in zip(*(expert.parameters() for expert in self.experts), strict=True):
            total = torch.stack(list(tensors)).sum(dim=0)
            for tensor in tensors:
                tensor.copy_((1 - share) * tensor + share * (total - tensor) / (len(tensors) - 1))

    @torch.no_grad()
    def collapsed(self) -> nn.Module:
        """One MLP of the mean weights."""
        made = copy.deepcopy(self.experts[0])
        for name, weight in self.mean_weights().items():
            made.get_parameter(name).copy_(weight)
        return made


def with_experts(module: nn.Module, count: int, every: int) -> nn.Module:
    """Gives every so many blocks of timm's plain vision transformer experts in place of their MLP, the last block included.

    In place; returns the module.
    """
    blocks: Any = module.blocks
    for block in list(blocks)[::-1][::every]:
        block.mlp = Experts(block.mlp, count)
    return module


def without_experts(module: nn.Module) -> nn.Module:
    """A copy in which MLPs of the mean weights are in the places of their experts."""
    made = copy.deepcopy(module)
    for name, part in list(made.named_modules()):
        if isinstance(part, Experts):
            parent, _, own = name.rpartition(".")
            setattr(made.get_submodule(parent), own, part.collapsed())
    return made
