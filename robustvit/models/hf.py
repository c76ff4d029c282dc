"""Image classifiers of transformers: from the Hugging Face hub, its cache, or a folder that save_pretrained wrote."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from robustvit.errors import BadParameter, CheckpointMismatch, MissingExtra, ModelError, WeightsUnavailable
from robustvit.models import hub
from robustvit.models.timm import parameters
from robustvit.primitives.architectures.preprocessing import Interpolation, Preprocessing, Share, per_channel
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.model_card import Card, fingerprint
from robustvit.primitives.modules.class_names import classes_of_labels
from robustvit.primitives.modules.given_module import LogitsOfTransformers
from robustvit.spec.model_address import write_model
from robustvit.spec.registry import model
from robustvit.spec.spec import Spec, digest
from robustvit.spec.view import INTERPOLATIONS, View

_CITATION = """@inproceedings{wolf2020transformers,
  title={Transformers: State-of-the-Art Natural Language Processing},
  author={Wolf, Thomas and Debut, Lysandre and Sanh, Victor and Chaumond, Julien and Delangue, Clement and Moi, Anthony and Cistac, Pierric
          and Rault, Tim and Louf, Remi and Funtowicz, Morgan and others},
  booktitle={EMNLP: System Demonstrations},
  year={2020}
}"""
_WITHOUT_EFFECT = (
    "_name_or_path",
    "_commit_hash",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "id2label",
    "label2id",
)  # settings that do not change the logits
_SAME_PIXELS = 0.01  # mean difference of pixels in [0, 1]; a shift by one pixel costs 0.005, another crop 0.03
_CONVNEXT_SQUASHES = 384  # pixels from which processors with a crop_pct resize both sides and cut nothing


@model(name="hf", source="Hugging Face transformers", url="https://huggingface.co/models", licence="each model's own", citation=_CITATION)
def hf_model(
    *,
    name: str,
    revision: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    crop_pct: Share | None = None,
    interpolation: Interpolation | None = None,
) -> Classifier:
    """An image classifier of transformers: `hf/google/vit-base-patch16-224`, or `hf/PATH` of a folder that save_pretrained wrote.

    revision: a branch, tag or commit of the hub's repository. mean, std, crop_pct, interpolation: default those of its image processor;
    the crop is torchvision's, which is at most a pixel off that of transformers. Code from a repository is never run.
    Raises MissingExtra without transformers, WeightsUnavailable, CheckpointMismatch where the repository holds no classifier's head.
    """
    transformers = _transformers()
    config, built = _loaded(transformers, name, revision)
    own = preprocessing_of(_from_pretrained(transformers.AutoImageProcessor, name, revision), name)
    inputs = Preprocessing(per_channel(mean, own.mean), per_channel(std, own.std), own.view.with_overrides(None, crop_pct, interpolation))
    local = Path(name).is_dir()
    address = Spec("hf").with_params(name=name, revision=revision, mean=mean, std=std)
    card = Card(
        label=write_model(address.with_params(crop_pct=crop_pct, interpolation=interpolation)),
        origin=write_model(Spec("hf").with_params(name=str(Path(name).resolve()) if local else name, revision=revision)),
        identity=_identity(config, built, inputs), fingerprint=fingerprint(built), weights="pretrained",
        tag=str(getattr(config, "_commit_hash", None) or ""),
        source=Path(name).name if local else name, url="" if local else hub.page({"hf_hub_id": name}), citation=_CITATION,
        parameters=parameters(built), notes={"transformers": transformers.__version__},
        classes=classes_of_labels(getattr(config, "id2label", None)),
    )  # fmt: skip
    return inputs.classifier(LogitsOfTransformers(built), card)


def _transformers() -> ModuleType:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtra("models of Hugging Face (hf/…) need transformers: python3 -m pip install 'robustvit[hf]'.") from error


def _loaded(transformers: ModuleType, name: str, revision: str | None) -> tuple[Any, nn.Module]:
    """The configuration and the classifier. Raises WeightsUnavailable, CheckpointMismatch or ModelError."""
    config = _from_pretrained(transformers.AutoConfig, name, revision)
    auto = transformers.AutoModelForImageClassification
    built, loaded = _from_pretrained(auto, name, revision, output_loading_info=True, config=config)
    lacking = [*loaded["missing_keys"], *loaded["mismatched_keys"]]
    if lacking:
        shown = ", ".join(sorted(str(key) for key in lacking)[:3])
        raise CheckpointMismatch(
            f"'hf/{name}' holds no complete {type(built).__name__}: {len(lacking)} tensors are missing ({shown}), and would be random. "
            f"Name a repository that was trained as an image classifier."
        )
    return config, built.float()


def _from_pretrained(auto: Any, name: str, revision: str | None, **more: Any) -> Any:
    """Loads an Auto class of transformers from the folder or the cache, and only where it is in neither, from the hub."""
    options = {"revision": revision or "main", "trust_remote_code": False, **more}
    try:
        return auto.from_pretrained(name, local_files_only=True, **options)
    except OSError as error:
        if name.startswith((".", "/", "~")) and not Path(name).is_dir():
            raise WeightsUnavailable(f"'hf/{name}': there is no such folder.") from error
        if Path(name).is_dir():
            raise WeightsUnavailable(f"the folder {name} is not one that save_pretrained wrote: {hub.first_line(error)}") from error
        hub.require_hub(f"the files of 'hf/{name}'")
    except (ValueError, KeyError, ImportError, RuntimeError) as error:
        raise _unusable(name, error) from error
    try:
        return auto.from_pretrained(name, **options)
    except OSError as error:
        raise WeightsUnavailable(f"'hf/{name}' is not available: {hub.first_line(error)}") from error
    except (ValueError, KeyError, ImportError, RuntimeError) as error:
        raise _unusable(name, error) from error


def _unusable(name: str, error: Exception) -> ModelError:
    return ModelError(f"'hf/{name}' is no image classifier that transformers can load without running its code: {hub.first_line(error)}")


def _identity(config: Any, built: nn.Module, inputs: Preprocessing) -> Spec:
    """The class and the settings that change the computation: the same from the hub, its cache or a folder."""
    settings = {key: value for key, value in config.to_dict().items() if key not in _WITHOUT_EFFECT}
    return Spec("hf", kind="model", version=1).with_params(
        arch=type(built).__name__, config=digest(settings), num_classes=int(config.num_labels), mean=inputs.mean, std=inputs.std
    )


def preprocessing_of(processor: Any, name: str) -> Preprocessing:
    """Converts an image processor to a normalisation of [0, 1] pixels and a view. Raises ModelError where that gives other pixels."""
    timm_config = getattr(processor, "data_config", None)
    if timm_config is not None:
        mean, std = per_channel(timm_config["mean"], ()), per_channel(timm_config["std"], ())
        inputs = Preprocessing(mean, std, View.of_timm(timm_config))
    else:
        scale = 255.0 * (processor.rescale_factor if getattr(processor, "do_rescale", True) else 1.0)
        normalises = getattr(processor, "do_normalize", True)
        mean = per_channel(processor.image_mean if normalises else None, (0.0,))
        std = per_channel(processor.image_std if normalises else None, (1.0,))
        inputs = Preprocessing(tuple(value / scale for value in mean), tuple(value / scale for value in std), _view(processor))
    _require_agreement(processor, inputs, name)
    return inputs


def _require_agreement(processor: Any, inputs: Preprocessing, name: str) -> None:
    """Raises ModelError where the processor and the preprocessing derived from it turn a smooth image into different pixels."""
    image = _smooth_image()
    theirs = np.asarray(processor(images=image, return_tensors="pt")["pixel_values"][0], dtype=np.float64)
    mean, std = (np.asarray(values)[:, None, None] for values in (inputs.mean, inputs.std))
    ours = np.asarray(inputs.view.apply(image), dtype=np.float64).transpose(2, 0, 1) / 255.0
    if theirs.shape != ours.shape or float(np.abs(theirs * std + mean - ours).mean()) > _SAME_PIXELS:
        raise ModelError(
            f"the image processor of 'hf/{name}' ({type(processor).__name__}) preprocesses images in a way that robustvit cannot "
            f"reproduce. Wrap the model in a function of your own: package.module:factory."
        )


def _smooth_image() -> Any:
    """A landscape image whose channels rise in different directions: a shift by a pixel changes it little, anything else much."""
    down, across = np.linspace(0, 255, 400)[:, None], np.linspace(0, 255, 600)[None, :]
    bands = (across + 0 * down, down + 0 * across, (across + 255 - down) / 2)
    return Image.fromarray(np.stack(bands, axis=2).round().astype(np.uint8))


def _view(processor: Any) -> View:
    names = {value: name for name, value in INTERPOLATIONS.items()}
    interpolation = names[int(getattr(processor, "resample", None) or 0)]
    size = dict(getattr(processor, "size", None) or {})
    cut = dict(getattr(processor, "crop_size", None) or {}) if getattr(processor, "do_center_crop", False) else {}
    share = getattr(processor, "crop_pct", None)
    short = size.get("shortest_edge")
    if not getattr(processor, "do_resize", False):
        return View(_pair(cut or size), None, "center" if cut else "none", interpolation)
    if share and short:
        squashes = short >= _CONVNEXT_SQUASHES
        return View((short, short), None if squashes else int(short / share), "squash" if squashes else "center", interpolation, share)
    if short and cut:
        return View(_pair(cut), short, "center", interpolation)
    if "height" in size:
        return _squashing(size, cut, interpolation)
    raise ModelError(f"the image processor {type(processor).__name__} gives images of no fixed size: size {size}, crop {cut or 'none'}.")


def _squashing(size: dict[str, int], cut: dict[str, int], interpolation: str) -> View:
    if not cut or cut == size:
        return View(_pair(size), None, "squash", interpolation)
    view = View(_pair(cut), min(_pair(size)), "squash", interpolation)
    if cut["height"] * size["width"] != cut["width"] * size["height"]:
        raise BadParameter(
            f"an image processor that resizes to {_pair(size)} and crops to {_pair(cut)}, in other proportions, is not supported."
        )
    return view


def _pair(size: dict[str, int]) -> tuple[int, int]:
    if "height" not in size or "width" not in size:
        raise ModelError(f"the image processor has no height and width; its size is {size}.")
    return size["height"], size["width"]
