"""Surgery on a model's modules: a new Classifier around a changed copy of the module, the given one untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from robustvit.errors import HostRefused
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import around
from robustvit.primitives.shared_weights import shared_copy

POLICIES = ("exact", "straight-through", "surrogate", "absent")
"""What a Classifier's input gradients are, from those that an attack can follow without a doubt to none."""


def changed(host: Classifier, change: Callable[[nn.Module], nn.Module], *, gradient: str = "exact") -> Classifier:
    """A new Classifier around what `change` makes of a copy of the host's module; the host is untouched.

    change: is handed a module of the host's tensors that is nobody else's, whose submodules it may replace; it must not write into tensors,
    which the host has, too. It returns that module, or another. gradient: of POLICIES, what its own change leaves of input gradients; the
    Classifier has that or the host's, whichever is later in the list.
    """
    made = around(host, change(shared_copy(host.model, host.card.label)))
    made.gradient = max(host.gradient, gradient, key=POLICIES.index)
    return made


def unchanged(module: nn.Module) -> nn.Module:
    """The module as it is: the `change` of a transform at its setting that does nothing."""
    return module


def named_layers(module: nn.Module, *kinds: type[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """The submodules of these kinds by their dotted names, in the order of registration; a shared one once, by its first name."""
    return ((name, part) for name, part in module.named_modules() if name and isinstance(part, kinds))


def replace_layer(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Puts `layer` in the place of the submodule of that dotted name, and in every other place where that very submodule stands.

    Raises HostRefused where that one quantises what it is given (`inputs`) and is no part of `layer`, which would compute on other numbers.
    """
    replaced = module.get_submodule(name)
    if not isinstance(getattr(replaced, "inputs", nn.Identity()), nn.Identity) and replaced not in set(layer.modules()):
        raise HostRefused(f"layer '{name}' quantises what it is given, which its replacement would not; quantise after this transform.")
    for part in list(module.modules()):
        for own in [own for own, child in part._modules.items() if child is replaced]:
            setattr(part, own, layer)
