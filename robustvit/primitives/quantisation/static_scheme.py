"""A model quantised by a static scheme: where its activations are quantised, by which ranges, and how a LayerNorm takes part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from robustvit.errors import HostRefused
from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.quantisation.activation_ranges import RangeRecorder, Site, record_ranges
from robustvit.primitives.quantisation.calibration import LoadBatch, calibrated, run_calibration
from robustvit.primitives.quantisation.layernorm_folding import fold_channels, shared_grid
from robustvit.primitives.quantisation.map_quantisation import cut_gradient
from robustvit.primitives.quantisation.quantised_inputs import GridQuantiser, QuantisedInputs, quantise_inputs
from robustvit.primitives.quantisation.quantised_weights import WEIGHTED, WeightGrids, layers_with_weights, quantise_weights
from robustvit.primitives.quantisation.uniform_quantisation import (
    FLOAT_BITS,
    POLICY_OF,
    Granularity,
    Grid,
    Range,
    RangeRule,
    RoundingGradient,
    uniform_grid,
)
from robustvit.primitives.surgery.hosts import check_host, plain_vit
from robustvit.primitives.surgery.layer_roles import chosen_layers
from robustvit.primitives.surgery.modules import changed
from robustvit.primitives.surgery.plain_attention import QUANTISED, quantise_operand


class StaticScheme(NamedTuple):
    """What a static quantiser does, see `simulated_quantisation`, whose parameters these are; `name` is that of the transform."""

    name: str
    weight_bits: int
    activation_bits: int
    attention_bits: int = FLOAT_BITS
    map_bits: int = FLOAT_BITS
    weights: Granularity = "channel"
    activations: Granularity = "tensor"
    group: int = 32
    weight_scale: RangeRule = "minmax"
    activation_scale: RangeRule = "minmax"
    percentile: float = 100.0
    symmetric: bool = False
    layernorm: Literal["tensor", "mean", "median"] = "tensor"
    float_inputs: Sequence[str] = ()

    @property
    def folds(self) -> bool:
        """Whether ranges after a LayerNorm are by channel and folded into it."""
        return self.layernorm != "tensor" and self.activation_bits < FLOAT_BITS

    @property
    def plain(self) -> bool:
        """Whether it takes plain vision transformers alone."""
        return self.folds or min(self.attention_bits, self.map_bits) < FLOAT_BITS

    def bits_at(self, name: str) -> int:
        """The bits of the activations of a site."""
        slot = name.rpartition(".")[2] if ".quantisers." in name else ""
        return self.map_bits if slot == "map" else self.attention_bits if slot else self.activation_bits


def calibration_ranges(
    model: Classifier, load_batch: LoadBatch, draws: Draws, data: Data, samples: int, scheme: StaticScheme
) -> dict[str, Tensor]:
    """The ranges of a model's activations over the first `samples` of a data set: `NAME.low` and `NAME.high` for every site."""
    recorders: dict[str, RangeRecorder] = {}

    def record(site: Site) -> nn.Module:
        recorders[site.name] = RangeRecorder(site)
        return recorders[site.name]

    def change(module: nn.Module) -> nn.Module:
        place_quantisers(model, module, scheme, record)
        return module

    recording = changed(model, change)
    return record_ranges(
        lambda: run_calibration(recording, load_batch, draws, data, samples), recorders, scheme.activation_scale,
        {name: scheme.bits_at(name) for name in recorders}, symmetric=scheme.symmetric, percentile=scheme.percentile,
    )  # fmt: skip


def calibrated_model(model: Classifier, artifact: Mapping[str, Tensor], scheme: StaticScheme, gradient: RoundingGradient) -> Classifier:
    """The model with quantised weights, and activations quantised to the ranges of an artifact of `calibration_ranges`."""

    def change(module: nn.Module) -> nn.Module:
        def grid_at(site: Site) -> Grid:
            low, high = (calibrated(artifact, f"{site.name}.{end}", site.shape, model) for end in ("low", "high"))
            return uniform_grid(Range(low, high), scheme.bits_at(site.name), scheme.symmetric)

        folded = _fold(model, module, scheme, grid_at)

        def quantiser(site: Site) -> nn.Module:
            return GridQuantiser(folded[site.name] if site.name in folded else grid_at(site), site.axis, gradient)

        layers = place_quantisers(model, module, scheme, quantiser)
        if scheme.weight_bits < FLOAT_BITS:
            grids = WeightGrids(scheme.weight_bits, scheme.weights, scheme.group, scheme.weight_scale, scheme.percentile)
            quantise_weights(layers.values(), grids)
        if gradient == "none" and scheme.plain:
            cut_gradient(module)
        return module

    rounds = min(scheme.activation_bits, scheme.attention_bits, scheme.map_bits) < FLOAT_BITS
    return changed(model, change, gradient=POLICY_OF[gradient] if rounds else "exact")


def place_quantisers(model: Classifier, module: nn.Module, scheme: StaticScheme, make: Callable[[Site], nn.Module]) -> dict[str, nn.Module]:
    """Puts what `make` makes of each site of a scheme in its place, in a module that is nobody else's; returns the layers with weights.

    Raises HostRefused for a model that the scheme does not take.
    """
    if scheme.plain:
        check_host(scheme.name, "plain", model)
    by_channel = {reader for readers in _after_norms(model, module, scheme).values() for reader in readers}
    left = _left(model, module, scheme)

    def before(name: str, layer: nn.Module) -> nn.Module | None:
        if name in left:
            return None
        return make(_site_of(name, layer, scheme, "channel" if name in by_channel else scheme.activations))

    rounds = scheme.activation_bits < FLOAT_BITS
    layers = quantise_inputs(scheme.name, model, module, before) if rounds else layers_with_weights(scheme.name, model, module, *WEIGHTED)
    _place_operands(module, scheme, make)
    return layers


def _site_of(name: str, layer: nn.Module, scheme: StaticScheme, granularity: Granularity) -> Site:
    axis, channels = (1, layer.in_channels) if isinstance(layer, nn.Conv2d) else (-1, layer.in_features)
    return Site(name, axis, channels, granularity, scheme.group)  # type: ignore[arg-type]


def _place_operands(module: nn.Module, scheme: StaticScheme, make: Callable[[Site], nn.Module]) -> None:
    """Quantisers of queries, keys and values, with a scale for all or for each head, and of maps, with one."""
    slots = [slot for slot in QUANTISED if (scheme.map_bits if slot == "map" else scheme.attention_bits) < FLOAT_BITS]
    heads: Granularity = "tensor" if scheme.activations == "tensor" else "channel"
    for index, block in enumerate(plain_vit(module).blocks if slots else ()):
        for slot in slots:
            site = Site(f"blocks.{index}.quantisers.{slot}", 1, block.attn.num_heads, "tensor" if slot == "map" else heads, scheme.group)
            block.attn = quantise_operand(block.attn, slot, make(site))


def _left(model: Classifier, module: nn.Module, scheme: StaticScheme) -> set[str]:
    """The names of the layers whose inputs are not quantised."""
    if not scheme.float_inputs:
        return set()
    return {one.name for one in chosen_layers(model, module, scheme.float_inputs, kinds=(nn.Linear, nn.Conv2d))}


def _after_norms(model: Classifier, module: nn.Module, scheme: StaticScheme) -> dict[nn.LayerNorm, list[str]]:
    """The names of the linear layers that read each LayerNorm of a plain vision transformer's blocks, where the scheme folds them."""
    if not scheme.folds:
        return {}
    left = _left(model, module, scheme)
    names = {part: name for name, part in module.named_modules()}
    found: dict[nn.LayerNorm, list[str]] = {}
    for block in plain_vit(module).blocks:
        for norm, parts in ((block.norm1, (block.attn, ("qkv", "gate"))), (block.norm2, (block.mlp, ("fc1", "fc1_g", "fc1_x")))):
            readers = [getattr(parts[0], name, None) for name in parts[1]]
            found.setdefault(norm, []).extend(names[one] for one in readers if one is not None and names[one] not in found[norm])
    return {norm: readers for norm, readers in found.items() if not left.intersection(readers)}


def _fold(model: Classifier, module: nn.Module, scheme: StaticScheme, grid_at: Callable[[Site], Grid]) -> dict[str, Grid]:
    """Folds ranges by channel into each LayerNorm and what reads it; returns the grids of the latter by name."""
    if scheme.plain:
        check_host(scheme.name, "plain", model)
    folded: dict[str, Grid] = {}
    for norm, names in _after_norms(model, module, scheme).items():
        readers = [module.get_submodule(name) for name in names]
        if not readers or not isinstance(norm, nn.LayerNorm) or norm.weight is None or norm.bias is None:
            raise HostRefused(
                f"'{scheme.name}' with layernorm={scheme.layernorm} folds scales into LayerNorms with weight and bias and the layers that "
                f"read them, and '{model.card.label}' has other norms or layers."
            )
        if any(isinstance(reader, QuantisedInputs) for reader in readers):
            raise HostRefused(
                f"'{scheme.name}' with layernorm={scheme.layernorm} changes what layers are given, and in '{model.card.label}' that is "
                "quantised already: apply it first."
            )
        by_channel = grid_at(_site_of(names[0], readers[0], scheme, "channel"))
        shared = shared_grid(by_channel, scheme.layernorm)  # type: ignore[arg-type]
        fold_channels(norm, readers, by_channel, shared)
        folded |= dict.fromkeys(names, shared)
    return folded
