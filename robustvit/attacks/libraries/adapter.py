"""What the adapters of other libraries' attacks share: their import, their parameters, the model they are shown, their random numbers.

A library draws from generators of its own, for a whole batch at once. They begin at a seed made of the samples' draws and are put back
afterwards: the same batch gets the same images, but a row depends on the company it is in. Runs reproduce where their batches do.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import random
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from importlib import metadata
from typing import Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin

import numpy as np
import torch
from torch import Tensor, nn

from robustvit.attacks.losses import cross_entropy
from robustvit.errors import GradientAbsent, MissingExtra, RobustvitError, UnknownName, nearest
from robustvit.primitives.attack_search import Crafted, Search
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.spec.plugin import Adapted
from robustvit.spec.schema import ABSENT, Hint, Param, SourceModule, hint_of
from robustvit.spec.spec import digest

log = logging.getLogger(__name__)

RADIUS = "Annotated[float, Gt(0)]"
_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError)
_PLAIN = (bool, int, float, str)
_WRITTEN = 12  # digits: no longer number was written as a decimal; 0.0313… stands for 8/255
_DENOMINATOR = 2550  # of fractions that people write for pixels: eighths and tenths of a level
_COMPANY = "The library's random numbers are seeded by the batch: a row depends on the samples it is attacked with."


class Library(NamedTuple):
    """An imported library."""

    name: str
    module: types.ModuleType
    version: str


class Asked(NamedTuple):
    """One batch for a library's attack.

    images: (N, 3, H, W) in [0, 1]; labels: (N,); both are copies. seed: 32 bits. arguments: what the Spec says, by our names.
    """

    model: Shown
    images: Tensor
    labels: Tensor
    seed: int
    arguments: dict[str, Any]


Craft: TypeAlias = Callable[[Asked], Tensor]
"""The images that a library's attack returns, as it returns them."""


class Shown(nn.Module):
    """A Classifier as other libraries know models: a module from pixels to logits that answers for any pixels.

    Some attacks ask on their way about pixels outside [0, 1] (a look-ahead, added noise). They get the answer for the nearest pixels
    inside, and the gradient as if nothing had been cut. What an attack returns is not cut. `followed`: whether a gradient was asked for.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.followed = False
        self.eval()

    @property
    def outputs(self) -> int:
        """How many logits the classifier gives."""
        return self.classifier.outputs

    @property
    def label(self) -> str:
        """What messages call the classifier."""
        return self.classifier.card.label

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, K) float32 logits. Raises GradientAbsent where a gradient is asked and the classifier has none at all."""
        seen = images - images.detach() + images.detach().clamp(0.0, 1.0)
        logits: Tensor = self.classifier(seen)
        self.followed |= seen.requires_grad
        if seen.requires_grad and not logits.requires_grad:
            raise GradientAbsent(
                f"model '{self.label}' gives no input gradient, which this attack follows. Attack it without gradients (square)."
            )
        return logits


def library(name: str, module: str = "") -> Library:
    """An installed library, and the part of it where its attacks are. Raises MissingExtra that says how to install it."""
    try:
        return Library(name, importlib.import_module(module or name), metadata.version(name))
    except ImportError as error:
        raise MissingExtra(f"attacks of {name} ({name}/…) need {name}: python3 -m pip install 'robustvit[{name}]' ({error}).") from error


def unknown(found: Library, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that is none of the library's attacks, with the nearest of them."""
    names = sorted(known)
    alike = [one for one in names if one.lower() == name.lower()]
    hint = f" Did you mean '{alike[0]}'?" if alike else nearest(name, names)
    return UnknownName(f"{found.name} {found.version} has no attack '{name}' that can run here.{hint} It has {', '.join(names)}.")


def adapted(found: Library, name: str, params: Iterable[Param], craft: Craft, doc: str) -> Adapted:
    """A library's attack as an attack of robustvit, in float32 whatever the model's precision.

    params: its own, by our names. The library's version is added to them as `library`, so that it joins the identity of a cell.
    craft: runs it. doc: what is told of it. What it returns is checked like that of any other attack. A failure inside the library
    is told with its name.
    """
    title = f"{found.name}/{name}"

    def run(model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, library: str, **arguments: Any) -> Crafted:
        shown, seed = Shown(model), _seed(draws)
        try:
            with _alone(seed, images.device), torch.enable_grad(), model.precisely(), _silent(title):
                returned = craft(Asked(shown, images.clone(), labels.clone(), seed, arguments))
        except _FAULTS as error:
            raise RobustvitError(
                f"attack '{title}': {found.name} {library} failed on {len(images)} samples of model '{model.card.label}': "
                f"{type(error).__name__}: {error}"
            ) from error
        return Crafted(returned, _books(shown, images, labels, draws))

    version = Param("library", Hint(found.version, base="literal", choices=(found.version,)), found.version)
    words = f"{name} of {found.name} {found.version}.\n\n{_COMPANY}\n\n{doc}".strip()
    return Adapted(run, (*params, version), words)


def parameters(constructor: Callable[..., Any], without: Iterable[str], kinds: Mapping[str, str]) -> list[Param]:
    """The parameters of a library's constructor with its defaults, but for those named in `without`.

    What one takes is its annotation, or what its default is. kinds: types by name, as a docstring tells them: a whole number that is
    called a float there takes any number.
    """
    found = []
    for one in inspect.signature(constructor, eval_str=True).parameters.values():
        if one.name in without or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        default = ABSENT if one.default is one.empty else _exact(one.default)
        text = _of_default(one.default, kinds.get(one.name, "")) if one.annotation is one.empty else _written(one.annotation)
        found.append(parameter(one.name, text, default))
    return found


def parameter(name: str, takes: str, default: Any = ABSENT) -> Param:
    """A parameter by the text of its annotation."""
    return Param(name, hint_of(takes, SourceModule("")), default)


def choice(values: Iterable[str]) -> str:
    """The annotation of a parameter that takes one of some words."""
    return f"Literal{list(values)!r}"


def _written(annotation: Any) -> str:
    """An annotation as robustvit writes it: `X | None` for Optional[X], one Literal for several."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        choices = [value for one in inner if get_origin(one) is Literal for value in get_args(one)]
        return choice(choices) if choices else " | ".join(_written(one) for one in inner)
    if origin is Literal:
        return choice(inner)
    if origin is tuple:
        return f"tuple[{_written(inner[0])}, ...]"
    return "None" if annotation is type(None) else inspect.formatannotation(annotation)


def _of_default(default: Any, told: str) -> str:
    if isinstance(default, tuple) and default:
        return f"tuple[{_of_default(default[0], told)}, ...]"
    if type(default) is int and told == "float":
        return "float"
    return type(default).__name__ if type(default) in _PLAIN else ""


def _exact(default: Any) -> Any:
    """A default as a person would write it: 0.03137254901960784 is 8/255."""
    if not isinstance(default, float) or len(repr(default)) <= _WRITTEN:
        return default
    fraction = Fraction(default).limit_denominator(_DENOMINATOR)
    return fraction if float(fraction) == default else default


def _seed(draws: Draws) -> int:
    """A seed of 32 bits that depends on the run's seed, the stream and every sample."""
    return int(digest((draws.seed, draws.stream, *draws.ids))[:8], 16)


@contextlib.contextmanager
def _alone(seed: int, device: torch.device) -> Iterator[None]:
    """The generators of torch, numpy and Python begin at `seed` in the block and go on afterwards as if it had not been."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    cards = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cards):
            torch.default_generator.manual_seed(seed)
            for card in cards:
                with torch.cuda.device(card):
                    torch.cuda.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)


@contextlib.contextmanager
def _silent(title: str) -> Iterator[None]:
    """What the block prints goes to the log."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            log.debug("%s: %s", title, line)


def _books(shown: Shown, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
    """−1 for what no library tells; where a gradient was followed, what the model's is at the images themselves: asked once more."""
    search = Search(shown.classifier, images, labels, draws)
    if shown.followed:
        search.climb(search.standing, images, lambda logits, rows: cross_entropy(logits, labels[rows]))
    unknown = torch.full((len(images),), -1, dtype=torch.int32, device=images.device)
    return {"steps": unknown, "queries": unknown, "gradients": unknown, "gradient": search.outcome().columns["gradient"]}
