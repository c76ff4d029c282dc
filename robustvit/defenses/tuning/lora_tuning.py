"""LoRA: low-rank updates of a frozen model's linear layers, and its head, are trained, and merged when training ends."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from robustvit.errors import BadParameter, MissingExtra, few, nearest
from robustvit.primitives.defense import Defense
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.surgery.layer_roles import layers_with_roles
from robustvit.primitives.surgery.modules import replace_layer
from robustvit.primitives.training.freezing import train_only, trained_heads
from robustvit.spec.registry import defense

_UPDATES = ("lora_A", "lora_B")  # as peft names the two factors


@defense(
    family="tuning", source="Hu et al. 2021 (LoRA), by the library peft", url="https://arxiv.org/abs/2106.09685",
    citation="""@inproceedings{hu2022lora,
  title={LoRA: Low-Rank Adaptation of Large Language Models},
  author={Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and others},
  booktitle={International Conference on Learning Representations},
  year={2022}
}""",
    rules="Given as `--tuning lora`; needs the extra [peft]. The paper updates queries and values; timm has queries, keys and values in "
    "one layer, `qkv`, which gets one update. Updates are merged into the weights of a checkpoint, which is loaded without peft and has "
    "the structure of the model that was tuned.",
)  # fmt: skip
def lora(*, rank: Count = 8, alpha: Radius = 16.0, layers: Sequence[str] = ("qkv",)) -> Defense:
    """Trains low-rank updates W + alpha/rank · B · A of a frozen model's linear layers, and its head (LoRA, Hu et al. 2021).

    rank: of the updates. layers: the last parts of the names of the layers, such as `qkv`, `proj`, `fc1`, `fc2`. B begins at zero. Raises
    MissingExtra without peft, BadParameter for a name that no linear layer has.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtra("tuning by lora needs peft: python3 -m pip install 'robustvit[peft]'.") from error

    def prepare(model: nn.Module) -> nn.Module:
        heads, names = trained_heads(model, "lora"), _names(model, layers)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)  # type: ignore[arg-type]
        inject_adapter_in_model(config, model)
        updates = (part for name, part in model.named_modules() if name.rpartition(".")[2] in _UPDATES)
        return train_only(model, [*heads, *updates])

    return Defense("lora", prepare=prepare, export=_merged)


def _names(model: nn.Module, layers: Sequence[str]) -> list[str]:
    """The full names of the linear layers outside the head whose last part is among these. Raises BadParameter where one is of none."""
    linear = [one.name for one in layers_with_roles(model) if isinstance(one.layer, nn.Linear) and one.role != "head"]
    ends = {name.rpartition(".")[2] for name in linear}
    for name in layers:
        if name not in ends:
            raise BadParameter(f"no linear layer of the model is called '{name}'.{nearest(name, ends)} There are {few(sorted(ends))}.")
    return [name for name in linear if name.rpartition(".")[2] in layers]


def _merged(model: nn.Module) -> nn.Module:
    """A copy of the model with its updates added to its weights, and layers as they were before."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    made = copy.deepcopy(model)
    for name, part in list(made.named_modules()):
        if isinstance(part, BaseTunerLayer):
            layer: Any = part
            layer.merge()
            replace_layer(made, name, layer.get_base_layer())
    return made
