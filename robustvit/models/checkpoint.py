"""Models from checkpoints: the tensors of a file in an architecture of timm or a registered one. Nothing from the file is executed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import timm
from torch import Tensor, nn

from robustvit.errors import BadParameter, CheckpointMismatch, ModelError, WeightsUnavailable, nearest
from robustvit.models.misfits import compare, explained
from robustvit.models.networks import Network, network_of
from robustvit.models.rebuilding import MOST, rebuild
from robustvit.models.tensors import Wish, read_tensors, refuse_pages
from robustvit.models.timm import ClassesOrNone, parameters
from robustvit.primitives.architectures.preprocessing import Interpolation, Share
from robustvit.primitives.checkpoint import HEADER, About, with_surgery
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.spec.given import check_path, check_whole, why_not_regular
from robustvit.spec.model_address import ALIASES, write_model
from robustvit.spec.registry import model
from robustvit.spec.spec import Spec, revive
from robustvit.spec.written.arguments import parse_kwargs, write_kwargs


@model(name="file", source="a checkpoint on this machine")
def checkpoint_model(
    *,
    path: str,
    arch: str | None = None,
    num_classes: ClassesOrNone | None = None,
    kwargs: str = "",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    crop_pct: Share | None = None,
    interpolation: Interpolation | None = None,
    key: str | None = None,
    prefix: str | None = None,
    ema: bool | None = None,
) -> Classifier:
    """A checkpoint in an architecture of timm or a registered one: `file:mine.safetensors?arch=vit_small_patch16_224&mean=0.5&std=0.5`.

    path: .safetensors, or what torch.save wrote (weights only: a file that needs more is refused). The usual nests (`state_dict`,
    `model`) and prefixes (`module.`) are removed; half precision becomes float32. key: where in the file the weights are (`teacher`).
    prefix: only tensors whose names begin so (`backbone.`). ema: averaged weights or plain ones; default averaged ones where there are any,
    which the card says. arch, num_classes, kwargs,
    mean, std: default those of the entry "robustvit" in a safetensors header, and then those of the architecture's own configuration.
    num_classes=0 is of a checkpoint without a head, whose outputs are features. Transforms that this entry names (`rv.save_checkpoint`
    writes them) are applied to the architecture before the tensors are loaded.
    Raises WeightsUnavailable for no file, CheckpointMismatch where the tensors do not fit, ModelError for a file that cannot be read.
    """
    file = existing(Path(path).expanduser())
    about = _merged(read_about(file), file, arch, num_classes, kwargs)
    built, inputs, own = _network(about, file, mean, std, crop_pct, interpolation)
    found = read_tensors(file, Wish(key, "" if (about.surgery or about.origin) and prefix is None else prefix, ema))
    address = Spec("file").with_params(path=path, arch=arch, num_classes=num_classes, kwargs=kwargs, mean=mean, std=std)
    label = write_model(address.with_params(crop_pct=crop_pct, interpolation=interpolation, key=key, prefix=prefix, ema=ema))
    card = Card(
        label=label, identity=own, fingerprint="", weights="checkpoint", tag=about.arch.partition(".")[2], source=file.name,
        classes=about.classes, origin=about.origin, backbone=about.backbone, headless=about.num_classes == 0,
        notes=_notes(about, mean, std, crop_pct) | ({"weights": found.chosen} if found.chosen else {}),
    )  # fmt: skip
    if not about.surgery:
        load_tensors(built, found.tensors, file.name)
        return inputs.classifier(built, replace(card, fingerprint=fingerprint(built), parameters=parameters(built)))
    made = rebuild(inputs.classifier(built, card), about, found.tensors, file)
    made.card = replace(
        card, identity=with_surgery(own, about.surgery, made.learned), parameters=parameters(made.model), headless=made.card.headless
    )
    if about.resized and (view := about.own_view()) is not None:
        made.view = view.with_overrides(None, crop_pct, interpolation)
    return made.identify()


def existing(file: Path) -> Path:
    """The file itself. Raises WeightsUnavailable, with the nearest name in its folder, unless it exists; ModelError for a web page.

    ModelError also for a device or a pipe, which is no file, BadParameter for what no file is called.
    """
    check_path(file, "the path of a checkpoint")
    if file.is_file():
        refuse_pages(file)
        return file
    if file.exists() and not file.is_dir():
        raise ModelError(f"{file} {why_not_regular(file)}; a checkpoint is a file, such as mine.safetensors.")
    if file.is_dir():
        raise WeightsUnavailable(f"{file} is a folder; a checkpoint is one file, such as {file / 'model.safetensors'}.")
    beside = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
    raise WeightsUnavailable(f"{file}: there is no such checkpoint.{nearest(file.name, beside)}")


def read_about(file: Path) -> About:
    """Reads what a safetensors header says of its model; nothing for other files. Raises ModelError for an invalid header."""
    if file.suffix != ".safetensors":
        return About()
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(HEADER)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{file}: not a whole safetensors file: {error}") from error
    if text is None:
        return About()
    try:
        written = json.loads(text)
        tuples = {name: tuple(written.get(name, ())) for name in ("classes", "learned", "backbone")} | {
            "surgery": revive(written.get("surgery", []))
        }
        return _checked(About(**{**written, **tuples}))
    except (ValueError, TypeError, AttributeError, KeyError, ArithmeticError, RecursionError, BadParameter) as error:
        raise ModelError(f"{file}: its header's entry '{HEADER}' is not as robustvit writes it: {error!r}") from error


def load_tensors(built: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Loads every tensor into the model, renamed and reshaped by timm's own filter for the architecture where they need it.

    A filter may not resample: a checkpoint for another image size or number of classes does not fit. Raises CheckpointMismatch.
    """
    wanted = built.state_dict()
    misfit = compare(wanted, tensors)
    if any(misfit):
        filtered = _filtered(built, tensors)
        if any(compare(wanted, filtered)) or not _same_numbers(tensors, filtered):
            raise CheckpointMismatch(explained(misfit, tensors, built, name))
        tensors = filtered
    built.load_state_dict(tensors, strict=False)


def _checked(about: About) -> About:
    """The same. Raises TypeError, KeyError or BadParameter for invalid values."""
    if not all(isinstance(text, str) for text in (about.arch, about.kwargs, about.origin)) or not isinstance(about.num_classes, int | None):
        raise TypeError("arch, kwargs and origin are text, num_classes is a whole number")
    if not all(isinstance(name, str) for name in (*about.classes, *about.learned, *about.backbone)):
        raise TypeError("classes, learned and backbone are names")
    if not all(isinstance(value, int | float) for value in (*(about.mean or ()), *(about.std or ()))):
        raise TypeError("mean and std are numbers")
    if about.num_classes is not None:
        check_whole(about.num_classes, "num_classes", 0, 1_000_000)
    if about.version is not None:
        check_whole(about.version, "version", 1, 1_000_000)
    _check_surgery(about.surgery)
    parse_kwargs(about.kwargs)
    about.own_view()
    return about


def _check_surgery(surgery: object) -> None:
    """Raises TypeError for anything but bound transforms, at most as many as one model has."""
    if not isinstance(surgery, tuple) or len(surgery) > MOST or not all(isinstance(spec, Spec) for spec in surgery):
        raise TypeError(f"surgery is a list of at most {MOST} transforms, each with name, params, kind and version")
    for spec in surgery:
        if not isinstance(spec.name, str) or spec.kind != "transform" or type(spec.version) is not int:
            raise TypeError("surgery names transforms, each of a version that is a whole number")


def _merged(about: About, file: Path, arch: str | None, num_classes: int | None, kwargs: str) -> About:
    """The values of the address, and of the header where the address has none. The header of another architecture is not used."""
    name = ALIASES.get(arch, arch) if arch else about.arch
    if not name and not about.origin:
        raise BadParameter(
            f"{file} does not say which architecture it is for; write file:{file}?arch=NAME, for instance arch=vit_small_patch16_224."
        )
    if about.surgery and name != about.arch:
        raise BadParameter(f"{file} holds '{about.arch}' after transforms, and fits nothing else; leave arch={arch} out.")
    header = about if name.partition(".")[0] == about.arch.partition(".")[0] else About()
    merged = write_kwargs({**parse_kwargs(header.kwargs), **parse_kwargs(kwargs)})
    return replace(header, arch=name, kwargs=merged, num_classes=header.num_classes if num_classes is None else num_classes)


def _network(
    about: About,
    file: Path,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    crop_pct: float | None,
    interpolation: str | None,
) -> Network:
    """What `network_of` builds; an error about another version names the file."""
    try:
        return network_of(about, mean, std, crop_pct, interpolation)
    except ModelError as error:
        raise type(error)(f"{file}: {error}") from error


def _notes(about: About, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, crop_pct: float | None) -> dict[str, Any]:
    notes: dict[str, Any] = {"timm": timm.__version__}
    notes |= {"transforms": ", then ".join(map(str, about.surgery))} if about.surgery else {}
    notes |= {key: value for key, value in (("accuracy", about.accuracy), ("command", about.command)) if value}
    if (mean or about.mean) is None or (std or about.std) is None:
        notes["normalisation"] = f"mean and std are {about.arch}'s own; the checkpoint does not say"
    if about.view is None and crop_pct is None:
        notes["view"] = f"resize and crop are {about.arch}'s own; the checkpoint does not say"
    return notes


def _filtered(built: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as timm converts them for this architecture; unchanged where it has no filter, or the filter does not apply to them."""
    convert = getattr(sys.modules[type(built).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return tensors
    try:
        return dict(convert(dict(tensors), built))
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError):  # the message then names the tensors as they are
        return tensors


def _same_numbers(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    """Whether tensors were only renamed, reshaped and left out, or joined and split: resampling changes how many numbers there are."""
    sizes, others = (Counter(tensor.numel() for tensor in tensors.values()) for tensors in (before, after))
    return not others - sizes or _numbers(others - sizes) == _numbers(sizes - others)


def _numbers(sizes: Counter[int]) -> int:
    return sum(size * count for size, count in sizes.items())
