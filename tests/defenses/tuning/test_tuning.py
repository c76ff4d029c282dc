"""What each tuning trains, and what it leaves to the bit."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import vits
from torch import Tensor, nn

import robustvit as rv
from robustvit.data.formats.arrays import ArrayDataset, array_dataset
from robustvit.errors import BadParameter, HostRefused
from robustvit.primitives.defense import Defense, compose
from robustvit.spec.view import View
from robustvit.training.loop import Trained, train
from robustvit.training.recipe import Recipe
from robustvit.training.state import TrainingState

TUNINGS = ["linear", "lora(rank=2)", "adapter(width=4)", "side(width=8)"]
HARD = Recipe(epochs=2, batch_size=4, weight_decay=0.5, lr=0.05, ema=0.5)


def defense(tuning: str) -> Defense:
    if tuning.startswith("lora"):
        pytest.importorskip("peft", reason="peft (the extra [peft]) is not installed")
    return compose([rv.load_defense(tuning), rv.load_defense("plain")])


def data() -> ArrayDataset:
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    return array_dataset("noise", images, np.arange(12) % 5, ids=[f"noise/{i}" for i in range(12)], classes=list("abcde"))


def host(make: str = "plain") -> nn.Module:
    torch.manual_seed(0)
    return vits.HOSTS[make]()


def trained(model: nn.Module, tuning: str, **options) -> Trained:
    options = {"recipe": HARD, "seed": 1} | options
    return train(model, data(), view=View(size=(32, 32), resize=32), mean=(0.5,) * 3, std=(0.5,) * 3, defense=defense(tuning), **options)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The backbone's tensors by their plain names, wherever a tuning has put them."""
    return {name.removeprefix("backbone.").replace(".mlp.mlp.", ".mlp."): one for name, one in model.state_dict().items()}


@pytest.mark.parametrize("tuning", TUNINGS)
def test_what_is_frozen_stays_to_the_bit_and_the_head_is_trained(tuning: str) -> None:
    model, before = host(), copy.deepcopy(host().state_dict())
    after = weights(trained(model, tuning).model)
    moved = {name for name, one in before.items() if not torch.equal(after[name], one)}
    expected = {"head.weight", "head.bias"} | ({f"blocks.{i}.attn.qkv.weight" for i in range(2)} if tuning.startswith("lora") else set())
    assert moved == expected


@pytest.mark.parametrize("tuning", TUNINGS)
def test_the_optimizer_knows_nothing_of_what_is_frozen(tuning: str) -> None:
    states: list[TrainingState] = []
    trained(host(), tuning, keep=states.append)
    shapes = [tuple(one["exp_avg"].shape) for one in states[-1].optimizer["state"].values()]
    assert (72, 24) not in shapes  # qkv.weight
    assert (5, 24) in shapes  # head.weight
    assert len(shapes) == {"linear": 2, "lora": 2 + 2 * 2, "adapter": 2 + 2 * 4, "side": 2 + 2 + 2 * 12 + 2 + 2 + 2}[tuning.split("(")[0]]


@pytest.mark.parametrize("tuning", TUNINGS)
def test_a_killed_tuning_goes_on_to_the_same_bytes(tuning: str) -> None:
    states: list[TrainingState] = []
    whole = trained(host(), tuning, keep=lambda state: states.append(copy.deepcopy(state)), keep_every=0.0)
    again = trained(host(), tuning, start=states[2])
    assert again.losses == whole.losses
    assert all(torch.equal(one, again.model.state_dict()[name]) for name, one in whole.model.state_dict().items())


def test_running_statistics_of_a_frozen_model_stay() -> None:
    model = host("cnn")
    before = {name: one.clone() for name, one in model.state_dict().items()}
    after = trained(model, "linear").model.state_dict()
    assert {name for name, one in before.items() if not torch.equal(after[name], one)} == {"7.weight", "7.bias"}


def test_running_statistics_of_a_trained_model_move() -> None:
    model = host("cnn")
    before = model.state_dict()["1.running_mean"].clone()
    tuned = train(model, data(), view=View(size=(32, 32), resize=32), mean=(0.5,) * 3, std=(0.5,) * 3, recipe=HARD)
    assert not torch.equal(tuned.model.state_dict()["1.running_mean"], before)


def test_lora_adds_the_scaled_product_of_its_factors_and_leaves_no_trace_of_itself() -> None:
    tuning, model = defense("lora(rank=2, alpha=6, layers=[qkv, fc1])"), host()
    plain, prepared = copy.deepcopy(model).eval(), tuning.prepare(copy.deepcopy(model)).eval()
    images = vits.images(3)
    assert torch.equal(prepared(images), plain(images))
    with torch.no_grad():
        for name, one in prepared.named_parameters():
            if "lora_B" in name:
                one.normal_(std=0.1)
    merged = tuning.export(prepared)
    assert set(merged.state_dict()) == set(plain.state_dict())
    for place in ("attn.qkv", "mlp.fc1"):
        layer = prepared.get_submodule(f"blocks.1.{place}")
        product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        expected = plain.get_submodule(f"blocks.1.{place}").weight + 3 * product
        assert torch.allclose(merged.get_submodule(f"blocks.1.{place}").weight, expected, atol=1e-6)
    assert torch.equal(merged.blocks[0].mlp.fc2.weight, plain.blocks[0].mlp.fc2.weight)
    assert torch.allclose(merged.eval()(images), prepared(images), atol=1e-5)
    assert "lora" in str(prepared), "the model that is trained goes on as it was"


def test_a_side_network_of_zero_output_is_a_linear_probe() -> None:
    """The same logits, and the same gradient of the head, as by the tuning `linear`."""
    probe, beside = (defense(one).prepare(host()).eval() for one in ("linear", "side(width=8)"))
    images, labels = vits.images(6), torch.arange(6) % 5
    assert torch.equal(probe(images), beside(images))
    for model in (probe, beside):
        torch.nn.functional.cross_entropy(model(images), labels).backward()
    assert torch.equal(probe.head.weight.grad, beside.backbone.head.weight.grad)
    assert beside.backbone.blocks[0].attn.qkv.weight.grad is None


def test_layers_that_are_not_there_and_models_without_a_head_are_refused() -> None:
    with pytest.raises(BadParameter, match=r"called 'qvk'\. Did you mean 'qkv'"):
        defense("lora(layers=[qvk])").prepare(host())
    headless = host()
    headless.reset_classifier(0)
    for tuning in TUNINGS:
        with pytest.raises(HostRefused, match=f"'{tuning.split('(')[0]}' trains the head.*--new-head"):
            defense(tuning).prepare(copy.deepcopy(headless))
    for tuning in ("adapter(width=4)", "side(width=8)"):
        with pytest.raises(HostRefused, match="takes timm's plain vision transformers"):
            defense(tuning).prepare(host("swin"))
