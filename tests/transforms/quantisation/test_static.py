"""Static quantisation: ranges against activations captured by hooks, and logits against the same model quantised by hooks."""

from __future__ import annotations

import calibration_noise
import numpy as np
import pytest
import torch
import vits
from calibration_noise import DRAWS, Noise, load_batch
from torch import Tensor, nn

from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.surgery.plain_attention import PlainAttention
from robustvit.spec.registry import lookup
from robustvit.transforms.quantisation.dynamic import dynamic_int8
from robustvit.transforms.quantisation.static import fit_simulated, simulated_quantisation, static_int8
from robustvit.transforms.quantisation.weights import quantize

SAMPLES = 20  # two batches, the second not full


def asked(**more) -> dict:
    """Every parameter, at its default or as given."""
    defaults = {param.name: param.default for param in lookup("transform", "simulated_quantisation").params if param.name != "calibration"}
    return defaults | {"calibration": Noise(), "samples": SAMPLES} | more


def fitted(make=vits.vit, **more) -> dict[str, Tensor]:
    return fit_simulated(vits.made(make), load_batch, DRAWS, **asked(**more))


def simulated(make=vits.vit, artifact=None, **more):
    return simulated_quantisation(vits.made(make), fitted(make, **more) if artifact is None else artifact, **asked(**more))


def captured(make=vits.vit) -> dict[str, np.ndarray]:
    """What every linear layer and convolution is given for the calibration samples, channels last: (values, channels)."""
    host, found = vits.made(make), {}
    for name, part in host.model.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            axis = 1 if isinstance(part, nn.Conv2d) else -1

            def hook(module, given, name=name, axis=axis):
                found[name] = given[0].movedim(axis, -1).flatten(0, -2).numpy()

            part.register_forward_pre_hook(hook)
    host.configure(tile=SAMPLES)(calibration_noise.first(Noise(), SAMPLES))
    return found


@pytest.mark.parametrize("make", [vits.vit, vits.swin, vits.HOSTS["cnn"]])
def test_ranges_are_the_least_and_largest_of_all_samples(make) -> None:
    found, wanted = fitted(make), captured(make)
    assert {name.rpartition(".")[0] for name in found} == set(wanted)
    for name, values in wanted.items():
        assert float(found[f"{name}.low"]) == pytest.approx(values.min(), abs=1e-5)
        assert float(found[f"{name}.high"]) == pytest.approx(values.max(), abs=1e-5)


def test_ranges_of_channels_and_of_groups() -> None:
    channels, groups = fitted(activations="channel"), fitted(activations="group", group=10)
    for name, values in captured().items():
        assert np.allclose(channels[f"{name}.high"], values.max(axis=0), atol=1e-5)
        for start in range(0, values.shape[1], 10):
            part = groups[f"{name}.low"][start : start + 10]
            assert np.allclose(part, values[:, start : start + 10].min(), atol=1e-5)


@pytest.mark.parametrize("percentile", [90.0, 99.9])
def test_the_percentile_of_values_lies_within_a_range_to_a_bin(percentile) -> None:
    found = fitted(activation_scale="percentile", percentile=percentile)
    for name, values in captured().items():
        width = (values.max() - values.min()) / 2048
        for end, share in (("low", 1 - percentile / 100), ("high", percentile / 100)):
            at = float(found[f"{name}.{end}"])
            assert (values < at - width).sum() - 1 <= share * values.size <= (values <= at + width).sum() + 1


def by_hand(values: np.ndarray, low, high, bits: int) -> np.ndarray:
    """Codes 0 … 2^bits − 1, zero among the values."""
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    scale = (high - low) / (2**bits - 1)
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(values / scale) + zero, 0, 2**bits - 1) - zero) * scale


def test_the_search_is_as_good_as_one_over_the_values_themselves() -> None:
    found = fitted(activation_scale="mse", activation_bits=4)
    for name, values in captured().items():
        low, high = values.min(), values.max()
        errors = [((values - by_hand(values, share * low, share * high, 4)) ** 2).sum() for share in np.linspace(1.0, 0.2, 41)]
        own = ((values - by_hand(values, float(found[f"{name}.low"]), float(found[f"{name}.high"]), 4)) ** 2).sum()
        assert own <= 1.02 * min(errors)


def hooked(make, artifact, bits: int, weight_bits: int):
    """The model with quantised weights, whose layers' inputs hooks quantise."""
    made = quantize(vits.made(make), bits=weight_bits)
    for name, part in made.model.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            low, high = (artifact[f"{name}.{end}"].double().numpy() for end in ("low", "high"))
            axis = 1 if isinstance(part, nn.Conv2d) else -1

            def hook(module, given, low=low, high=high, axis=axis):
                values = given[0].movedim(axis, -1).double().numpy()
                return torch.from_numpy(by_hand(values, low, high, bits)).movedim(-1, axis).float()

            part.register_forward_pre_hook(hook)
    return made


@pytest.mark.parametrize("make", [vits.vit, vits.swin, vits.HOSTS["cnn"]])
@pytest.mark.parametrize("activations", ["tensor", "channel", "group"])
def test_logits_are_those_of_a_model_that_hooks_quantise(make, activations) -> None:
    more = {"activations": activations, "group": 7, "activation_bits": 12, "weight_bits": 5}
    artifact = fitted(make, **more)
    pixels = vits.images(6)
    found, wanted = simulated(make, artifact, **more)(pixels), hooked(make, artifact, 12, 5)(pixels)
    host = vits.made(make)(pixels)
    assert float((found - wanted).abs().max()) < 0.05 * float((found - host).abs().max())


def test_one_layer_is_given_values_of_its_grid_and_clipped_ones_at_its_ends() -> None:
    artifact = {name: value / 3 for name, value in fitted(activation_bits=4).items()}
    made, given = simulated(artifact=artifact, activation_bits=4), []
    layer = made.model.blocks[1].mlp.fc1
    layer.inputs.register_forward_hook(lambda module, before, after: given.append((before[0], after)))
    made(vits.images(3))
    low, high = (float(artifact[f"blocks.1.mlp.fc1.{end}"]) for end in ("low", "high"))
    before, after = (one.double().numpy() for one in given[0])
    assert np.allclose(after, by_hand(before, low, high, 4), atol=1e-5)
    assert len(np.unique(after)) == 16


@pytest.mark.parametrize("layernorm", ["mean", "median"])
def test_folded_channels_are_those_that_hooks_quantise_after_each_norm(layernorm) -> None:
    more = {"layernorm": layernorm, "weight_bits": 32, "activation_bits": 6}
    artifact, pixels = fitted(**more), vits.images(6)
    reference = vits.made(vits.vit)
    for name, part in reference.model.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            low, high = (artifact[f"{name}.{end}"].double().numpy() for end in ("low", "high"))
            if name.endswith(("qkv", "fc1")):
                assert low.shape == (24,)

            axis = 1 if isinstance(part, nn.Conv2d) else -1

            def hook(module, given, low=low, high=high, axis=axis):
                return torch.from_numpy(by_hand(given[0].movedim(axis, -1).double().numpy(), low, high, 6)).movedim(-1, axis).float()

            part.register_forward_pre_hook(hook)
    found, wanted = simulated(artifact=artifact, **more), reference(pixels)
    shared = found.model.blocks[0].attn.qkv.inputs
    assert shared.scale.shape == shared.zero.shape == ()
    # channels whose zero-points differ from the shared one are clipped elsewhere, all else is equal
    assert float((found(pixels) - wanted).abs().mean()) < 0.3 * float((wanted - vits.made(vits.vit)(pixels)).abs().mean())


def heads_quantised(**more) -> PlainAttention:
    attention = simulated(weight_bits=32, activation_bits=32, **more).model.blocks[0].attn
    assert isinstance(attention, PlainAttention)
    return attention


def test_queries_keys_values_and_maps_are_quantised_where_bits_say_so() -> None:
    both = heads_quantised(attention_bits=4, map_bits=3)
    assert {name: slot.highest for name, slot in both.quantisers.items()} == {"query": 15, "key": 15, "value": 15, "map": 7}
    assert all(slot.scale.shape == () for slot in both.quantisers.values())
    by_head = heads_quantised(attention_bits=4, activations="channel")
    assert by_head.quantisers["query"].scale.shape == (2,)
    assert isinstance(by_head.quantisers["map"], nn.Identity)


def test_scales_of_heads_are_those_of_their_own_values() -> None:
    values = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    artifact = fitted(weight_bits=32, activation_bits=32, attention_bits=4, activations="channel")
    slot = simulated(artifact=artifact, weight_bits=32, activation_bits=32, attention_bits=4, activations="channel").model.blocks[0].attn
    found = slot.quantisers["key"](values[:, :2])
    for head in range(2):
        low, high = (float(artifact[f"blocks.0.quantisers.key.{end}"][head]) for end in ("low", "high"))
        assert np.allclose(found[:, head], by_hand(values[:, head].double().numpy(), low, high, 4), atol=1e-5)


def test_static_int8_is_the_simulation_with_one_width() -> None:
    host, pixels = vits.made(vits.vit), vits.images(4)
    artifact = fitted()
    found = static_int8(host, artifact, calibration=Noise(), bits=8)
    assert torch.equal(found(pixels), simulated_quantisation(host, artifact, **asked())(pixels))


def test_a_model_without_calibration_has_no_logits_until_its_tensors_are_loaded() -> None:
    for more in ({}, {"layernorm": "mean", "attention_bits": 4, "map_bits": 4, "activations": "channel"}):
        whole, bare = simulated(**more), simulated(artifact={}, **more)
        assert bool(torch.isnan(bare.model(vits.images(1))).all())
        bare.model.load_state_dict(whole.model.state_dict())
        assert torch.equal(bare(vits.images(2)), whole(vits.images(2)))


@pytest.mark.parametrize("more", [
    {}, {"layernorm": "median"}, {"weight_bits": 32, "activation_bits": 32, "attention_bits": 8}, {"activation_bits": 32, "map_bits": 4},
])  # fmt: skip
def test_gradients_are_straight_or_none(more) -> None:
    artifact, leaf = fitted(**more), vits.images(2).requires_grad_()
    straight, hard = (simulated(artifact=artifact, gradient=gradient, **more) for gradient in ("straight-through", "none"))
    assert (straight.gradient, hard.gradient) == ("straight-through", "absent")
    assert torch.equal(straight(leaf), hard(leaf))
    assert bool(torch.autograd.grad(straight(leaf).sum(), leaf)[0].flatten(1).any(dim=1).all())
    assert not hard(leaf).requires_grad


def test_weights_alone_have_exact_gradients() -> None:
    made = simulated(activation_bits=32, weight_bits=4)
    assert made.gradient == "exact"
    assert torch.equal(made(vits.images(2)), quantize(vits.made(vits.vit), bits=4)(vits.images(2)))


@pytest.mark.parametrize("more", [{"attention_bits": 8}, {"map_bits": 4}, {"layernorm": "mean"}])
def test_what_needs_plain_blocks_is_refused_elsewhere(more) -> None:
    with pytest.raises(HostRefused, match=r"'simulated_quantisation' takes timm's plain vision transformers, and 'toy' is none"):
        simulated(vits.swin, artifact={}, **more)


def test_folding_into_norms_whose_readers_are_quantised_already_is_refused() -> None:
    host = dynamic_int8(vits.made(vits.vit))
    with pytest.raises(HostRefused, match="in 'toy' that is quantised already: apply it first"):
        simulated_quantisation(host, fitted(layernorm="mean"), **asked(layernorm="mean"))


def test_bits_are_named_where_they_are_wrong() -> None:
    with pytest.raises(BadParameter, match="attention_bits is 24; it takes 2 to 16, or 32"):
        simulated(artifact={}, attention_bits=24)


def test_the_inputs_of_some_layers_can_stay_float() -> None:
    found = fitted(float_inputs=["mlp.fc2", "patch_embed.proj"])
    assert {name for name in fitted() if name not in found} == {
        f"{name}.{end}" for name in ("patch_embed.proj", *(f"blocks.{at}.mlp.fc2" for at in range(3))) for end in ("low", "high")
    }
    made = simulated(float_inputs=["mlp.fc2", "patch_embed.proj"], weight_bits=4)
    assert isinstance(made.model.blocks[0].mlp.fc2.inputs, nn.Identity)
    assert len(made.model.blocks[0].mlp.fc2.weight[0].unique()) <= 15
    with pytest.raises(BadParameter, match=r"no layer of 'toy' is called 'mlp\.fc3'\. There are fc1, fc2"):
        simulated(artifact={}, float_inputs=["mlp.fc3"])


def test_a_norm_whose_reader_stays_float_is_not_folded() -> None:
    host, made = vits.made(vits.vit), simulated(layernorm="mean", float_inputs=["fc1"], weight_bits=32)
    assert torch.equal(made.model.blocks[0].norm2.weight, host.model.blocks[0].norm2.weight)
    assert not torch.equal(made.model.blocks[0].norm1.weight, host.model.blocks[0].norm1.weight)
