"""HVT against its definition token by token, and against the operations that its authors count."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter
from robustvit.evaluation.cost.macs import count
from robustvit.evaluation.loading import load_model
from robustvit.models.architectures.hvt import hvt

SMALL = {"img_size": 32, "patch_size": 4, "dim": 12, "heads": 2, "num_classes": 5}
GMACS = [  # the authors' README, with the pooling widths of their configurations
    ("HVT-S-0", {"pool_width": 0}, 4.57, [196]), ("HVT-S-1", {}, 2.40, [196, 97]), ("HVT-S-2", {"pool_width": 6}, 1.94, [196, 97, 48]),
    ("HVT-S-3", {"pool_width": 4}, 1.62, [196, 97, 48, 23]), ("HVT-S-4", {"pool_width": 3}, 1.39, [196, 97, 48, 23, 11]),
    ("HVT-Ti-1", {"dim": 192, "heads": 3}, 0.64, [196, 97]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "gmacs", "tokens"), [row[1:] for row in GMACS], ids=[row[0] for row in GMACS])
def test_operations_and_tokens_are_the_published_ones(given, gmacs, tokens) -> None:
    with torch.device("meta"):
        built = hvt(**given)
        maps = built.maps(torch.empty(1, 3, 224, 224))
    assert [one.shape[1] * one.shape[2] for one in maps] == tokens
    assert round(count(built, (224, 224)).macs / 1e9, 2) == gmacs


def by_hand(net: nn.Module, image: Tensor, pool_width: int, depth: int) -> Tensor:
    """(K,) logits of one image, token by token, from the weights by their names."""
    own = net.state_dict()
    kernel = own["embed.proj.weight"].flatten(1)
    patches = [image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten() for row in range(8) for column in range(8)]
    tokens = [kernel @ patch + own["embed.proj.bias"] for patch in patches]
    places = [own["stages.0.position"].reshape(-1, 12)]
    tokens = [token + place for token, place in zip(tokens, places[0], strict=True)]
    stage = block = 0
    for number in range(depth):
        name = f"stages.{stage}.blocks.{block}"
        tokens = [token + new for token, new in zip(tokens, mixed(own, name, [norm(own, f"{name}.norm1", t) for t in tokens]), strict=True)]
        tokens = [token + feed_forward(own, name, norm(own, f"{name}.norm2", token)) for token in tokens]
        block += 1
        if number % pool_width == 0:
            tokens = [torch.stack(tokens[i : i + 3]).max(dim=0).values for i in range(0, len(tokens) - 2, 2)]
            stage, block = stage + 1, 0
            place = own[f"stages.{stage}.position"].reshape(-1, 12)
            tokens = [token + new for token, new in zip(tokens, place, strict=True)]
    mean = torch.stack([norm(own, "norm", token) for token in tokens]).mean(dim=0)
    return own["head.weight"] @ mean + own["head.bias"]


def norm(own: dict[str, Tensor], name: str, token: Tensor) -> Tensor:
    centred = token - token.mean()
    return centred / (centred.square().mean() + 1e-6).sqrt() * own[f"{name}.weight"] + own[f"{name}.bias"]


def mixed(own: dict[str, Tensor], name: str, tokens: list[Tensor]) -> list[Tensor]:
    """Attention of two heads of six numbers, query by query."""
    projected = [own[f"{name}.mixer.attn.qkv.weight"] @ token + own[f"{name}.mixer.attn.qkv.bias"] for token in tokens]
    found = []
    for one in projected:
        heads = []
        for begin in (0, 6):
            scores = torch.stack([one[begin : begin + 6] @ other[12 + begin : 18 + begin] / math.sqrt(6) for other in projected])
            heads.append(scores.softmax(dim=0) @ torch.stack([other[24 + begin : 30 + begin] for other in projected]))
        found.append(own[f"{name}.mixer.attn.proj.weight"] @ torch.cat(heads) + own[f"{name}.mixer.attn.proj.bias"])
    return found


def feed_forward(own: dict[str, Tensor], name: str, token: Tensor) -> Tensor:
    hidden = own[f"{name}.mlp.fc1.weight"] @ token + own[f"{name}.mlp.fc1.bias"]
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return own[f"{name}.mlp.fc2.weight"] @ hidden + own[f"{name}.mlp.fc2.bias"]


@pytest.mark.parametrize(("pool_width", "depth"), [(12, 2), (2, 4), (3, 4)])  # the last pools after its last block
def test_logits_equal_those_computed_token_by_token(pool_width, depth) -> None:
    generator = torch.Generator().manual_seed(pool_width)
    net = hvt(pool_width=pool_width, depth=depth, **SMALL).double().eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3)
    images = torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    wanted = torch.stack([by_hand(net, image, pool_width, depth) for image in images])
    assert torch.allclose(net(images), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("query", "message"), [
    ("img_size=32", "4 patches of 16, too few for 2 poolings; raise pool_width"), ("dim=33&heads=2", "33 does not divide into 2 heads"),
    ("img_size=8", "patches of 16 pixels do not divide images of 8"),
    ("dimm=3", "Did you mean 'dim'"), ("depth=0", "takes a whole number >= 1"),
])  # fmt: skip
def test_what_cannot_be_built_is_refused(query, message) -> None:
    with pytest.raises(BadParameter, match=message):
        load_model(f"arch/hvt?pool_width=6&{query}")
