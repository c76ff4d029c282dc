"""Writes a Classifier as a checkpoint that can be loaded by its path alone, its transforms included."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from robustvit.errors import BadParameter, CheckpointMismatch, ModelError, RobustvitError
from robustvit.evaluation.loading import load_model
from robustvit.primitives.architectures.registered import own_arguments
from robustvit.primitives.checkpoint import About, Stored, checkpoint_bytes, learned_names, resizing, rounded
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import around, channels
from robustvit.primitives.draws import Draws
from robustvit.primitives.model_card import fingerprint
from robustvit.primitives.shared_weights import owned
from robustvit.records.disk import write_output
from robustvit.spec.code_names import code_names
from robustvit.spec.given import check_path
from robustvit.spec.model_address import parse_model
from robustvit.spec.plugin import ARCHITECTURE
from robustvit.spec.registry import lookup
from robustvit.spec.spec import Spec
from robustvit.spec.written.arguments import write_kwargs

ENDING = ".safetensors"
_ROUNDING = 1e-3  # relative; how far logits may differ on a device that sums in any order
_ROWS = 2  # of noise on which a file is compared with its model
_STORED: tuple[Stored, ...] = ("float32", "float16")


def save_checkpoint(model: Classifier, path: Path | str, *, stored: Stored = "float32") -> None:
    """Writes a model as a safetensors file that `rv.load_model("file:PATH")` loads, after the transforms that made it.

    The header names the architecture, the normalisation, the view, the classes and the transforms with their arguments; weights follow, and
    what transforms learned. stored: float32 keeps every bit; float16 halves the file and rounds. The file is loaded again before it is put
    in its place. Raises BadParameter for a path that cannot be written, ModelError for a model that cannot be rebuilt from a file: one of
    code of your own, one that was changed by hand after it was loaded, one whose weights are packed.
    """
    place = _checked(path, stored)
    try:
        _check_learned(model)
        content = checkpoint_bytes(model.model, about_of(model), stored, model.learned)
        check_rebuilt(model, content, stored)
    except RobustvitError as error:
        raise ModelError(f"model '{model.card.label}' cannot be saved as {place.name}: {error}") from error
    write_checkpoint(place, content)


def about_of(model: Classifier, command: str = "") -> About:
    """The header of a model's checkpoint. Raises ModelError for a model that no file could name."""
    identity = model.card.identity
    registered = identity.name.startswith(ARCHITECTURE)
    enlarged = model.view.shown is not None and not resizing(surgery_of(model))
    own = enlarged or (type(model) is not Classifier and not hasattr(model, "with_module"))
    if own or not (model.card.origin or (identity.get("code") is None and (registered or identity.name == "timm"))):
        what = type(model).__name__ if own else identity.name
        raise ModelError(
            f"it is of code that a file does not name ({what}); register its architecture with @rv.model(name='arch/NAME') in an installed "
            "package, or save its state dict and build it yourself."
        )
    classes = identity.get("num_classes")
    return About(
        **_architecture(model), num_classes=classes if isinstance(classes, int) else model.outputs,
        mean=channels(model.mean), std=channels(model.std),
        view=model.view.as_dict(), command=command, classes=model.card.classes, surgery=surgery_of(model),
        learned=learned_names(model.learned), backbone=model.card.backbone,
    )  # type: ignore[arg-type]  # fmt: skip


def _architecture(model: Classifier) -> dict[str, Any]:
    """What a header names the architecture by."""
    identity = model.card.identity
    if model.card.origin:
        return {"origin": model.card.origin}
    if identity.name.startswith(ARCHITECTURE):
        return {"arch": identity.name, "kwargs": _kwargs(identity), "version": identity.version}
    return {"arch": str(identity.get("arch")), "kwargs": str(identity.get("kwargs") or "")}


def surgery_of(model: Classifier) -> tuple[Spec, ...]:
    """The transforms that made a model's module: those of the checkpoint that it was loaded from, and those applied since.

    Raises ModelError for one that a file could not name.
    """
    loaded = model.card.identity.get("surgery") or ()
    found: tuple[Spec, ...] = (*loaded, *model.card.transforms)  # type: ignore[misc]
    for spec in found:
        for name in code_names(spec):
            raise ModelError(
                f"'{name}', in its transform '{spec.name}', is code of your own, which a file does not name; give it a package."
            )
    return found


@torch.no_grad()
def check_rebuilt(model: Classifier, content: bytes, stored: Stored) -> None:
    """Raises ModelError unless a file of this content gives the model back: its weights to the bit, and its logits of noise."""
    module = model.model if stored == "float32" else owned(rounded(model.model, stored))
    kept, found = around(model, module).configure(tile=_ROWS), _loaded(model, content)
    if fingerprint(found.model) != fingerprint(kept.model):
        raise ModelError(f"its weights are not all of {stored}, and would be rounded.")
    noise = torch.rand(_ROWS, model.channels, *model.size, generator=torch.Generator().manual_seed(0)).to(model.device)
    draws = Draws(0, "checkpoint", [str(row) for row in range(_ROWS)], model.device)
    first, second = (one.bound(draws)(noise) for one in (kept, found))
    if first.shape != second.shape or not torch.allclose(first, second, rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True):
        raise ModelError("its architecture, weights and transforms do not give its logits: it was changed by hand.")


def write_checkpoint(path: Path, content: bytes) -> None:
    """Writes a checkpoint whole or not at all. Raises BadParameter where that cannot be."""
    try:
        write_output(path, content)
    except OSError as error:
        raise BadParameter(f"{path} cannot be written: {error.strerror}.") from error


def _checked(path: Path | str, stored: Stored) -> Path:
    place = check_path(path, "the path of a checkpoint").expanduser()
    if stored not in _STORED:
        raise BadParameter(f"stored is '{stored}'; it takes {' or '.join(_STORED)}.")
    if place.suffix != ENDING or place.is_dir():
        raise BadParameter(f"{place} is {'a folder' if place.is_dir() else 'no name for a checkpoint'}; it ends in {ENDING}.")
    if not place.absolute().parent.is_dir():
        raise BadParameter(f"{place} cannot be written: there is no folder {place.parent}.")
    return place


def _check_learned(model: Classifier) -> None:
    """Raises ModelError where what a transform learned is no longer with the model."""
    for spec in surgery_of(model)[len(model.learned) :]:
        if lookup("transform", spec.name).fit:
            raise ModelError(f"what its transform '{spec.name}' learned is not with it; save what rv.transformed or load_model returned.")


def _kwargs(identity: Spec) -> str:
    """The arguments of a registered architecture, but for the number of classes."""
    own = dict(own_arguments(identity).params)
    own.pop("num_classes")
    return write_kwargs(own)  # type: ignore[arg-type]


def address_of_file(model: Classifier, file: str) -> Spec:
    """The address of a file of a model's weights, with the code that they are for, where there is any."""
    origin = parse_model(model.card.origin) if model.card.origin else None
    return origin.with_params(weights=file) if origin is not None and origin.name == "factory" else Spec("file", (("path", file),))


def _loaded(model: Classifier, content: bytes) -> Classifier:
    """What a file of this content gives, where and as the model computes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"checkpoint{ENDING}"
        file.write_bytes(content)
        try:
            return load_model(address_of_file(model, str(file)), device=model.device, tile=_ROWS, precision=model.precision)
        except CheckpointMismatch as error:
            why = "the shapes that its transforms leave depend on the weights" if surgery_of(model) else "it was changed by hand"
            raise ModelError(f"{why}, and a file names arguments alone. {error}") from error
