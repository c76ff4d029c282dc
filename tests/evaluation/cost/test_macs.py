"""Counting multiplications: against arithmetic by hand and the published numbers of DeiT, without touching the model."""

import time

import pytest
import timm
import torch
from torch import nn

from robustvit.evaluation.cost.macs import count
from robustvit.evaluation.manifest import _id, manifest
from robustvit.evaluation.pipelines.costs import PipelineCosts
from robustvit.evaluation.requested import make
from robustvit.evaluation.settings import Settings
from robustvit.spec.suite_file import load_suite


def bare(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name)


class Chooses(nn.Module):
    """A network whose path depends on its numbers."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :2] if bool(images.sum() > 0) else images.flatten(1)[:, 2:4]


class Remembers(nn.Module):
    """A network that keeps what it computed last, and a tensor that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.offset = torch.ones(3)
        self.last: torch.Tensor | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.last = images.mean((2, 3)) + self.offset
        return self.head(self.last)


@pytest.mark.parametrize(("size", "gmacs"), [("tiny", 1.254), ("small", 4.599), ("base", 17.564)])
def test_deit_costs_what_is_published(size: str, gmacs: float) -> None:
    macs = count(bare(f"deit_{size}_patch16_224"), (224, 224)).macs
    assert macs is not None
    assert macs / 1e9 == pytest.approx(gmacs, rel=0.005)


def test_a_convolution_and_a_head_cost_what_arithmetic_says() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False), nn.Flatten(), nn.Linear(4 * 64, 10)
    )
    assert count(net, (16, 16)).macs == 8 * 8 * (8 * 3 * 9 + 4 * 8) + 4 * 64 * 10


def test_attention_counts_its_two_products() -> None:
    net = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=10)
    tokens, width = 197, 192
    products = tokens * width * width * (3 + 1 + 4 + 4) + 2 * tokens * tokens * width
    assert count(net, (224, 224)).macs == products + 196 * width * 3 * 256 + width * 10


def test_a_model_that_looks_at_its_numbers_is_not_counted_and_says_why() -> None:
    cost = count(Chooses(), (8, 8))
    assert cost.macs is None
    assert cost.reason.startswith("not counted: ")


def test_a_model_without_products_is_not_counted() -> None:
    assert "no matrix product" in count(nn.Flatten(), (8, 8)).reason


def test_the_model_is_untouched() -> None:
    net = Remembers().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert count(net, (8, 8)).macs == 6
    assert net.training
    assert net.last is None
    assert net.offset.device.type == "cpu"
    assert all(torch.equal(tensor, before[name]) and tensor.device.type == "cpu" for name, tensor in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_counting_a_base_sized_transformer_takes_a_moment() -> None:
    net = bare("vit_base_patch16_224")
    count(net, (224, 224))
    start = time.process_time()
    count(net, (224, 224))
    assert time.process_time() - start < 1.0  # about 0.1 s; room for a busy machine


def test_a_manifest_tells_macs_and_is_named_without_them() -> None:
    made = make(load_suite("quick"), ["demo"], "digits", Settings(limit=2))
    page = manifest(made, "")
    assert _id(page) == page.id
    macs = page.models["demo"].macs
    assert macs is not None
    assert macs > 1e6
    made.costs["demo", ()] = PipelineCosts(None, 1, 4, None, None, "exact", reason="not counted: why")
    again = manifest(made, "")
    assert again.id == page.id
    assert again.models["demo"].notes["macs"] == "not counted: why"
