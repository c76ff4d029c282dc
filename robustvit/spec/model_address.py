"""Parses the addresses of models to Specs: `vit_b16`, `file:mine.safetensors?arch=vit_small_patch16_224`, `hf/ORG/NAME`.

    address  = subject [ "?" key=value { "&" key=value } ] { "+" transform }
    subject  = alias | registered model | timm name [ ".tag" ] | "timm/" NAME | "hf-hub:" ORG/NAME | "hf/" NAME | "file:" PATH
             | package.module:factory
    transform = NAME [ "(" key=value { "," key=value } ")" ]

Transforms are the parameter `transforms` of the Spec, bound, in the order in which they are applied. A + in a path is written %2B.
Registered models are `demo` and the architectures `arch/NAME`, which have random weights: `arch/hvt?img_size=32&num_classes=10`.
Nothing is loaded here: whether an architecture exists and its weights are available is checked when the model is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from robustvit.errors import BadParameter, UnknownName, nearest, with_article
from robustvit.spec import registry
from robustvit.spec.code_names import CODE
from robustvit.spec.coercion import coerce
from robustvit.spec.plugin import ARCHITECTURE
from robustvit.spec.schema import Hint
from robustvit.spec.spec import Spec, Value, show
from robustvit.spec.written.arguments import Argument, parse_kwargs, write_kwargs
from robustvit.spec.written.pipeline import HELP, bind_pipeline, split_pipeline, write_pipeline

ALIASES = {
    "beit_b16": "beit_base_patch16_224",
    "cait_s24": "cait_s24_224",
    "convnext_b": "convnext_base",
    "convnext_s": "convnext_small",
    "convnext_t": "convnext_tiny",
    "deit3_b16": "deit3_base_patch16_224",
    "deit3_s16": "deit3_small_patch16_224",
    "deit_b16": "deit_base_patch16_224",
    "deit_s16": "deit_small_patch16_224",
    "deit_ti16": "deit_tiny_patch16_224",
    "pit_b": "pit_b_224",
    "pit_s": "pit_s_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_l": "swin_large_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swinv2_b": "swinv2_base_window8_256",
    "swinv2_s": "swinv2_small_window8_256",
    "swinv2_t": "swinv2_tiny_window8_256",
    "vit_b16": "vit_base_patch16_224",
    "vit_b32": "vit_base_patch32_224",
    "vit_b8": "vit_base_patch8_224",
    "vit_l16": "vit_large_patch16_224",
    "vit_s16": "vit_small_patch16_224",
    "vit_s32": "vit_small_patch32_224",
    "vit_ti16": "vit_tiny_patch16_224",
    "xcit_m24": "xcit_medium_24_p16_224",
    "xcit_s12": "xcit_small_12_p16_224",
    "xcit_t12": "xcit_tiny_12_p16_224",
}

_FORMS = (
    "an alias (vit_b16), a timm name, a registered model (demo), a registered architecture (arch/hvt), hf/ORG/NAME, hf-hub:ORG/NAME (of "
    "timm), file:PATH?arch=NAME or package.module:factory"
)
_HUB_OF_TIMM = ("hf-hub:timm/", "timm/")  # as the hub writes the names of timm's own models
_SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".bin", ".ckpt")
_CHANNELS = Hint("a number, or one for each channel separated by commas", base="float", sequence=True)


def parse_model(
    text: str, *, checkpoint: Path | None = None, model_kwargs: Mapping[str, Argument] | None = None, num_classes: int | None = None
) -> Spec:
    """Parses an address to a Spec of kind "model".

    checkpoint, model_kwargs, num_classes: timm's flags for one model; `parse_model("vit_b16", checkpoint=Path("mine.pth"))` is
    `parse_model("file:mine.pth?arch=vit_b16")`. Parameters are checked when the Spec is bound. Raises BadParameter for an address that
    has none of the forms above, or a flag that contradicts it.
    """
    if not isinstance(text, str):
        raise BadParameter(f"a model is named by an address; this is {with_article(type(text).__name__)}, {text!r}. Write {_FORMS}.")
    own, steps = split_pipeline(text.strip())
    subject, mark, query = own.partition("?")
    if mark and not query:
        raise BadParameter(f"the address '{text}' has nothing after its '?'; write ?weights=random&num_classes=10.")
    spec = _subject(subject.replace("%2B", "+"), text)
    spec = spec.with_params(**_query(query, text))
    if spec.name.startswith(ARCHITECTURE):
        spec = spec.with_params(**{key: _sequence(value) for key, value in spec.params})
    if checkpoint is not None:
        spec = _with_checkpoint(spec, checkpoint, text)
    if num_classes is not None:
        spec = _agreeing(spec, "num_classes", num_classes, text)
    if model_kwargs and spec.name.startswith(ARCHITECTURE):
        for key, value in model_kwargs.items():
            spec = _agreeing(spec, key, value, text)
    elif model_kwargs:
        known = parse_kwargs(str(spec.get("kwargs") or ""))
        for key, value in model_kwargs.items():
            if key in known and str(known[key]) != str(value):
                raise BadParameter(f"the address '{text}' says {key}={known[key]}, the flag says {value}; give one.")
        spec = spec.with_params(kwargs=write_kwargs({**known, **model_kwargs}))
    return spec.with_params(transforms=bind_pipeline(steps, f"the address '{text}'")) if steps else spec


def pipeline_of(spec: Spec) -> tuple[Spec, ...]:
    """The bound transforms of a model's Spec, in the order in which they are applied."""
    steps = spec.get("transforms")
    return steps if isinstance(steps, tuple) else ()  # type: ignore[return-value]


def write_model(spec: Spec) -> str:
    """The shortest address of a model's Spec, leaving out what is null or empty: the inverse of `parse_model`, up to aliases."""
    spec, steps = spec.without("transforms"), pipeline_of(spec)
    subjects = {"timm": "arch", "hf": "name", "file": "path", "factory": "target"}
    key = subjects.get(spec.name)
    written = {name: value for name, value in spec.params if name != key and value is not None and value != ""}
    head = {"hf": "hf/", "file": "file:"}.get(spec.name, "") + str(spec.get(key)).replace("+", "%2B") if key else spec.name
    tail = "&".join(f"{name}={_written(value)}" for name, value in sorted(written.items()))
    return (f"{head}?{tail}" if tail else head) + write_pipeline(steps)


def unknown_model(name: str, architectures: Iterable[str]) -> UnknownName:
    """The error for a name that is no alias, no registered model and none of the architectures."""
    hint = nearest(name, [*ALIASES, *registry.entries("model"), *architectures])
    return UnknownName(f"no model is called '{name}'.{hint} It takes {_FORMS}.")


def unknown_architecture(name: str) -> UnknownName:
    """The error for a name that begins as those of registered architectures do, and is none."""
    known = [one for one in registry.entries("model") if one.startswith(ARCHITECTURE)]
    return UnknownName(f"no architecture is called '{name}'.{nearest(name, known)} Registered are {', '.join(known)}.")


def _subject(subject: str, text: str) -> Spec:
    if subject in ALIASES:
        return Spec("timm", (("arch", ALIASES[subject]),))
    own = next((subject.removeprefix(hub) for hub in _HUB_OF_TIMM if subject.startswith(hub)), "")
    if own:
        return Spec("timm", (("arch", own),))
    if re.fullmatch(r"hf-hub:[\w.-]+/[\w.-]+(@[\w.-]+)?", subject):
        return Spec("timm", (("arch", subject),))
    if subject.startswith("hf/") and len(subject) > 3:
        return Spec("hf", (("name", subject[3:]),))
    if subject.startswith("file:") and len(subject) > 5:
        return Spec("file", (("path", subject[5:]),))
    if CODE.fullmatch(subject):
        return Spec("factory", (("target", subject),))
    if subject in registry.entries("model"):
        return Spec(subject)
    if subject.startswith(ARCHITECTURE):
        raise unknown_architecture(subject)
    family, slash, _ = subject.partition("/")
    if slash and any(name.startswith(f"{family}/") for name in registry.entries("model")) and not subject.endswith(_SUFFIXES):
        registry.lookup("model", subject)  # raises UnknownName with the nearest of its names
    if re.fullmatch(r"[A-Za-z0-9_-]+(\.[\w.-]+)?", subject) and not subject.endswith(_SUFFIXES):
        return Spec("timm", (("arch", subject),))
    hint = f" A checkpoint is written file:{subject}?arch=NAME." if subject.endswith(_SUFFIXES) else ""
    hint += f" {HELP}" if "+" in subject else ""
    raise BadParameter(f"'{text}' is not the address of a model.{hint} Write {_FORMS}.")


def _query(query: str, text: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for part in filter(None, query.split("&")):
        key, sign, value = part.partition("=")
        if not sign or not key:
            raise BadParameter(f"'{part}' in the address '{text}' is not NAME=VALUE; write ?weights=random&num_classes=10.")
        if key in found:
            raise BadParameter(f"the parameter '{key}' occurs twice in the address '{text}'.")
        found[key] = _value(key, value, text)
    return found


def _value(key: str, value: str, text: str) -> Value:
    if key in ("mean", "std"):
        return _channels(key, value, text)
    if key == "kwargs":
        return write_kwargs(parse_kwargs(value))
    return ALIASES.get(value, value) if key == "arch" else value


def _channels(key: str, value: str, text: str) -> Value:
    parts = tuple(part.strip() for part in value.split(","))
    return coerce(parts * 3 if len(parts) == 1 else parts, _CHANNELS, f"{key} in the address '{text}'")


def _with_checkpoint(spec: Spec, checkpoint: Path, text: str) -> Spec:
    registered = spec.name.startswith(ARCHITECTURE)
    if spec.name != "timm" and not registered:
        raise BadParameter(
            f"--checkpoint gives weights to an architecture of timm or a registered one; '{text}' is none. Write --model NAME --checkpoint "
            "PATH."
        )
    if spec.get("weights") is not None:
        raise BadParameter(f"'{text}' and --checkpoint {checkpoint} both say where the weights come from; give one.")
    spec = _as_arguments(spec) if registered else spec
    return replace(spec, name="file").with_params(path=str(checkpoint))


def _as_arguments(spec: Spec) -> Spec:
    """Of a registered architecture: its name as `arch`, and what it is built with as `kwargs`, as a checkpoint's address has them."""
    of_file = {key: value for key, value in spec.params if key in ("num_classes", "mean", "std", "crop_pct", "interpolation")}
    kwargs = write_kwargs({key: value for key, value in spec.params if key not in of_file})  # type: ignore[misc]
    return Spec(spec.name, where=spec.where).with_params(arch=spec.name, kwargs=write_kwargs(parse_kwargs(kwargs)), **of_file)


def _agreeing(spec: Spec, key: str, value: Argument, text: str) -> Spec:
    given = spec.get(key)
    if given is not None and str(given) != str(value):
        raise BadParameter(f"the address '{text}' says {key}={given}, the flag says {value}; give one.")
    return spec.with_params(**{key: value})


def _sequence(value: Value) -> Value:
    """The value of an architecture's parameter: `2,2,6` is a sequence, as after the question mark of any plug-in."""
    return tuple(value.split(",")) if isinstance(value, str) and "," in value else value


def _written(value: Value) -> str:
    return ",".join(repr(item) if isinstance(item, float) else show(item) for item in value) if isinstance(value, tuple) else str(value)
