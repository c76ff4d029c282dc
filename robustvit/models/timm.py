"""Models of timm: any architecture, with pretrained weights or, with weights=random, with random ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import timm
import torch
from annotated_types import Ge, Le
from timm.data.config import resolve_model_data_config
from timm.models import get_arch_pretrained_cfgs, is_model
from torch import nn

from robustvit.errors import BadParameter, CheckpointMismatch, ModelError, UnknownName, WeightsUnavailable, nearest
from robustvit.models import hub
from robustvit.models.classes import classes_of_timm
from robustvit.primitives.architectures.preprocessing import Interpolation, Preprocessing, Share, per_channel
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.spec.model_address import ALIASES, unknown_model, write_model
from robustvit.spec.registry import model
from robustvit.spec.spec import Spec
from robustvit.spec.view import View
from robustvit.spec.written.arguments import parse_kwargs, write_kwargs

Classes = Annotated[int, Ge(1), Le(1_000_000)]
ClassesOrNone = Annotated[int, Ge(0), Le(1_000_000)]  # 0: without a head

CITATION = """@misc{rw2019timm,
  author={Wightman, Ross},
  title={PyTorch Image Models},
  year={2019},
  publisher={GitHub},
  doi={10.5281/zenodo.4414861},
  url={https://github.com/huggingface/pytorch-image-models}
}"""
_HEADLESS = (
    "'{arch}' gives features, not logits: it has no classifier. Ask for them by ?num_classes=0, for readouts that learn a head "
    "(+knn(data=DATA), +linear(data=DATA)), or give weights with a head by --checkpoint PATH and num_classes."
)
_SEED = 0  # of weights=random; any fixed number will do
_NOT_KWARGS = frozenset({
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "num_classes", "features_only",
    "scriptable", "exportable", "no_jit",
})  # fmt: skip


@model(name="timm", source="timm", url="https://github.com/huggingface/pytorch-image-models", licence="each model's own", citation=CITATION)
def timm_model(
    *,
    arch: str,
    weights: Literal["pretrained", "random"] = "pretrained",
    num_classes: ClassesOrNone | None = None,
    kwargs: str = "",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    crop_pct: Share | None = None,
    interpolation: Interpolation | None = None,
) -> Classifier:
    """A model of timm by its name, with or without a tag: `vit_base_patch16_224.augreg2_in21k_ft_in1k`. The resolved tag is recorded.

    num_classes: 0 leaves the head out, and the outputs are features: readouts (`+knn(data=…)`) read them. arch: timm's name or an alias, or
    `hf-hub:ORG/NAME`, a model of timm that somebody put on the hub. weights: `random` initialises with a fixed seed and marks the model's
    rows. kwargs: arguments of timm's constructor, `img_size=32,patch_size=4`. mean, std, crop_pct, interpolation: default the model's own
    configuration.
    Raises UnknownName, or WeightsUnavailable where the weights are neither cached nor downloadable; random ones never take their place.
    """
    arch = ALIASES.get(arch, arch)
    if not arch.startswith(hub.TIMM):
        check_architecture(arch)
    built = pretrained(arch, num_classes, kwargs) if weights == "pretrained" else random(arch, num_classes, kwargs)
    inputs = preprocessing_of(built, kwargs, mean, std, crop_pct, interpolation)
    address = Spec("timm").with_params(arch=arch, num_classes=num_classes, kwargs=write_kwargs(parse_kwargs(kwargs)), mean=mean, std=std)
    label = write_model(
        address.with_params(crop_pct=crop_pct, interpolation=interpolation, weights=weights if weights == "random" else None)
    )
    return inputs.classifier(built, _card(built, label, weights, kwargs, inputs))


def check_architecture(arch: str) -> None:
    """Raises UnknownName, with the nearest names, unless timm has the architecture and its tag."""
    name, _, tag = arch.partition(".")
    if not is_model(name):
        raise unknown_model(arch, timm.list_models())
    tags = list(get_arch_pretrained_cfgs(name))
    if tag and arch not in tags:
        known = [full.partition(".")[2] for full in tags]
        raise UnknownName(
            f"architecture '{name}' has no weights tagged '{tag}'.{nearest(tag, known)} Its tags are {', '.join(known) or 'none'}."
        )


def pretrained(arch: str, num_classes: int | None, kwargs: str) -> nn.Module:
    """The architecture with its pretrained weights. Raises WeightsUnavailable or CheckpointMismatch; its head is never re-initialised."""
    config = hub.config_of(arch) if arch.startswith(hub.TIMM) else blank_config(arch)
    outputs = config.get("num_classes")
    if num_classes == 0:
        outputs = 0
    elif outputs == 0:
        raise ModelError(_HEADLESS.format(arch=arch))
    if num_classes is not None and num_classes != outputs:
        raise WeightsUnavailable(
            f"the pretrained weights of '{arch}' have {outputs} classes, not {num_classes}: the head would be random. "
            f"Give weights with --checkpoint, or write ?weights=random."
        )
    try:
        cached = hub.cached_weights(arch, config)
        return build(arch, 0 if num_classes == 0 else None, kwargs, pretrained=True, pretrained_cfg_overlay=cached)
    except RuntimeError as error:
        if "loading state_dict" in str(error):
            raise CheckpointMismatch(f"the pretrained weights of '{arch}' do not fit it with kwargs={kwargs}: {error}") from error
        raise _unavailable(arch, error) from error
    except OSError as error:
        raise _unavailable(arch, error) from error


def random(arch: str, num_classes: int | None, kwargs: str) -> nn.Module:
    """The architecture with random weights: the same in every process; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        return build(arch, num_classes, kwargs)


def build(arch: str, num_classes: int | None, kwargs: str, **source: Any) -> nn.Module:
    """The architecture as timm builds it. Raises BadParameter for arguments it does not take, ModelError where it has no classifier."""
    given = parse_kwargs(kwargs)
    create: Callable[..., nn.Module] = timm.create_model
    for key in given:
        if key in _NOT_KWARGS:
            raise BadParameter(f"kwargs of '{arch}' cannot set '{key}'; robustvit sets it.")
    if empty := [key for key, value in given.items() if value is None]:
        raise BadParameter(f"kwargs of '{arch}': timm leaves out what is null, so that {empty[0]} would have its default; give it a value.")
    if num_classes is not None:
        source["num_classes"] = num_classes
    try:
        built: nn.Module = create(arch, **given, **source)
    except (TypeError, ValueError, AssertionError, AttributeError, ArithmeticError, IndexError) as error:
        if not given:
            raise
        raise BadParameter(f"timm cannot build '{arch}' with kwargs={write_kwargs(given)}: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if (not given and num_classes is None) or source.get("pretrained"):
            raise
        wish = f"kwargs={write_kwargs(given)}" + (f" and {num_classes:,} classes" if num_classes else "")
        raise BadParameter(f"'{arch}' cannot be built here with {wish}: {hub.first_line(error)}") from error
    except KeyError as error:
        if not given:
            raise
        raise BadParameter(
            f"timm cannot build '{arch}' with kwargs={write_kwargs(given)}: it has nothing called {error}. "
            "Layers are given by timm's own short names, as in act_layer=relu6 or norm_layer=layernorm."
        ) from error
    if not getattr(built, "num_classes", 0) and num_classes != 0:
        raise ModelError(_HEADLESS.format(arch=arch))
    return built.float()


def blank_config(arch: str) -> dict[str, Any]:
    """timm's configuration of an architecture's (tagged) weights."""
    found = timm.get_pretrained_cfg(arch)
    return dict(found.to_dict()) if found is not None else {}  # type: ignore[no-untyped-call]


def preprocessing_of(
    built: nn.Module,
    kwargs: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    crop_pct: float | None = None,
    interpolation: str | None = None,
) -> Preprocessing:
    """The normalisation and view of the model's own configuration, at the size it was built for, with the overrides that are given."""
    config = resolve_model_data_config(built)  # type: ignore[no-untyped-call]
    size = parse_kwargs(kwargs).get("img_size")
    if isinstance(size, int):
        config["input_size"] = (3, size, size)
    config["crop_pct"] = crop_pct or config["crop_pct"]
    config["interpolation"] = interpolation or config["interpolation"]
    given = parse_kwargs(kwargs).get("in_chans")
    count = given if isinstance(given, int) and given else 3
    return Preprocessing(per_channel(mean, config["mean"], count), per_channel(std, config["std"], count), View.of_timm(config))


def identity(arch: str, built: nn.Module, kwargs: str, inputs: Preprocessing, **more: str) -> Spec:
    """The identity of a timm model in a Cell, beside its fingerprint: the same for an alias, another path, another spelling of kwargs."""
    classes: Any = built.num_classes
    named = Spec("timm", kind="model", version=1)
    return named.with_params(
        arch=arch, num_classes=int(classes), kwargs=write_kwargs(parse_kwargs(kwargs)), mean=inputs.mean, std=inputs.std, **more
    )


def parameters(built: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in built.parameters())


def _card(built: nn.Module, label: str, weights: str, kwargs: str, inputs: Preprocessing) -> Card:
    config: dict[str, Any] = built.pretrained_cfg  # type: ignore[assignment]
    name, tag = str(config["architecture"]), str(config.get("tag") or "")
    shared: dict[str, Any] = {
        "fingerprint": fingerprint(built),
        "weights": weights,
        "parameters": parameters(built),
        "classes": () if weights == "random" or not built.num_classes else classes_of_timm(built),
        "headless": not built.num_classes,
        "notes": {"timm": timm.__version__},
    }
    if weights == "random":
        return Card(label, identity(name, built, kwargs, inputs, weights="random"), source="random initialisation", **shared)
    full = f"{name}.{tag}" if tag else name
    return Card(
        label, identity(full, built, kwargs, inputs), tag=tag, source=str(config.get("paper_name") or f"timm {full}"), url=hub.page(config),
        licence=str(config.get("license") or ""), citation=CITATION, **shared,
    )  # fmt: skip


def _unavailable(arch: str, error: Exception) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"the pretrained weights of '{arch}' are not available: {hub.first_line(error)} Give them with --checkpoint PATH, or download them "
        f"on "
        f"a machine with a network and copy its Hugging Face cache (HF_HOME) here; ?weights=random gives random ones."
    )
