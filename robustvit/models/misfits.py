"""How the tensors of a checkpoint differ from those of a model, and what to write so that they fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

_SHOWN = 3  # tensors of each kind that a message names
_MEANS, _STDS = ("mu", "mean", "new_mean"), ("sigma", "std", "new_std")  # the last part of names of a normaliser's tensors


class Misfit(NamedTuple):
    """How the tensors of a file differ from those of a model, by name. unscaled: whole numbers where the model has weights."""

    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]
    unscaled: list[str]


def compare(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Misfit:
    """The names that only one side has, or that differ in shape or kind. Counters of batches, which no evaluation uses, may be missing."""
    missing = [key for key in wanted if key not in tensors and not key.endswith("num_batches_tracked")]
    shared = [key for key in wanted if key in tensors]
    reshaped = [key for key in shared if tensors[key].shape != wanted[key].shape]
    unscaled = [key for key in shared if wanted[key].is_floating_point() and not tensors[key].is_floating_point()]
    return Misfit(missing, [key for key in tensors if key not in wanted], reshaped, unscaled)


def explained(misfit: Misfit, tensors: Mapping[str, Tensor], built: nn.Module, name: str) -> str:
    """What does not fit, and what to write. name: of the file."""
    return f"{differences(misfit, tensors, built, name)} {_way_out(misfit, tensors, built.state_dict(), built)}"


def differences(misfit: Misfit, tensors: Mapping[str, Tensor], built: nn.Module, name: str) -> str:
    """What does not fit, as a sentence. name: of the file."""
    wanted = built.state_dict()
    shapes = [f"{key} is {tuple(tensors[key].shape)}, the model's {tuple(wanted[key].shape)}" for key in misfit.reshaped]
    kinds = [f"{key} is {str(tensors[key].dtype).removeprefix('torch.')}" for key in misfit.unscaled]
    parts = [
        _counted(misfit.missing, "missing from it", ", "),
        _counted(misfit.unexpected, "unknown to the model", ", "),
        _counted(shapes, "of another shape", "; "),
        _counted(kinds, "of whole numbers", ", "),
    ]
    problems = "; ".join(part for part in parts if part)
    architecture = _config(built).get("architecture")
    fitting = type(built).__name__ + (f" '{architecture}'" if architecture else "")
    return f"{name} does not fit {fitting}: {problems}."


def _config(built: nn.Module) -> Mapping[str, Any]:
    """timm's configuration of a module; empty where it has none."""
    found = getattr(built, "pretrained_cfg", None)
    return found if isinstance(found, Mapping) else {}


def _counted(names: list[str], what: str, joint: str) -> str:
    if not names:
        return ""
    rest = f"{joint}and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} {what} ({joint.join(names[:_SHOWN])}{rest})"


def _way_out(misfit: Misfit, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], built: nn.Module) -> str:
    if misfit.unscaled:
        return "They are quantised, and without their scales nothing says which weights they stand for. Save the dequantised weights."
    prefix = _prefix(tensors, wanted)
    if prefix:
        return f"Its names begin with '{prefix}': add prefix={prefix}{_normaliser(tensors, prefix)}"
    if "fc_norm.weight" in misfit.unexpected and "norm.weight" in misfit.missing:
        return "It normalises after pooling (fc_norm), as models that average their tokens do: add kwargs=global_pool=avg."
    head = _config(built).get("classifier")
    heads = (head,) if isinstance(head, str) else tuple(head or ())
    if heads and not misfit.reshaped and _all_of(misfit.missing, heads) and not misfit.unexpected:
        return "It has no head, and without one its outputs are features: add num_classes=0 to read these."
    if not misfit.reshaped and misfit.unexpected and not misfit.missing and not getattr(built, "num_classes", 1):
        return "num_classes=0 is of checkpoints without a head; leave it out, and readouts take the features before its head."
    outputs = {tensors[key].shape[0] for key in misfit.reshaped if key.rpartition(".")[0] in heads}
    if len(outputs) == 1 and len(misfit.reshaped) <= 2 * len(heads):
        return f"Its head has {outputs.pop()} classes: add num_classes={tensors[misfit.reshaped[0]].shape[0]}."
    if "pos_embed" in misfit.reshaped and len(misfit.reshaped) == 1:
        return (
            "Its position embedding is for another image size: give kwargs=img_size= the size it was trained at, or, for other "
            "sizes, kwargs=dynamic_img_size=true and --img-size."
        )
    return "Name its architecture with arch=NAME, its constructor's arguments with kwargs=depth=6,…, its classes with num_classes=N."


def _all_of(names: list[str], layers: tuple[str, ...]) -> bool:
    """Whether there are names, and all are of tensors of these layers."""
    return bool(names) and all(name.rpartition(".")[0] in layers for name in names)


def _prefix(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """The prefix behind which most of the model's names lie in the file; "" where none has more than lie there without one."""
    found: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        found.update({".".join(parts[:i]) + "." for i in range(1, len(parts)) if ".".join(parts[i:]) in wanted})
    plain = sum(key in wanted for key in tensors)
    return next((prefix for prefix, count in found.most_common(1) if count > plain), "")


def _normaliser(tensors: Mapping[str, Tensor], prefix: str) -> str:
    """The rest of the advice: mean and std of a normaliser that lies beside the model in the file, such as RobustBench's mu and sigma."""
    beside = {key.rpartition(".")[2]: value.flatten() for key, value in tensors.items() if not key.startswith(prefix)}
    found = [next((beside[name] for name in names if name in beside), None) for names in (_MEANS, _STDS)]
    if any(values is None or len(values) != 3 for values in found):
        return "."
    mean, std = (",".join(f"{float(value):.6g}" for value in values) for values in found if values is not None)
    return f"&mean={mean}&std={std} (the normalisation that the file has beside the model)."
