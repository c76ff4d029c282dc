"""Head pruning: removed heads against gated ones, exact MACs, importance against loops and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import vits
from torch.nn import functional

from robustvit.errors import BadParameter, HostRefused
from robustvit.evaluation.cost.macs import count
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.transforms.low_rank import low_rank
from robustvit.transforms.pruning.head import fit_importance, head_pruning, l1_importance, least_heads
from robustvit.transforms.pruning.magnitude import magnitude

TOKENS, WIDTH = 17, 24
FIT: dict[str, Any] = {"samples": 7, "amount": 0.5, "scope": "layer", "remove": True}


class Noise:
    """A data set of noise that is never opened."""

    name = fingerprint = "noise"
    ids = tuple(f"n/{i}" for i in range(7))

    def __len__(self) -> int:
        return len(self.ids)


def load_batch(data: Noise, positions: np.ndarray) -> Batch:
    return Batch(vits.images(7)[positions], torch.from_numpy(positions % 5), tuple(data.ids[i] for i in positions))


def four_heads() -> Any:
    return vits.vit(num_heads=4)


def four_normalised_heads() -> Any:
    return vits.vit(num_heads=4, qk_norm=True, init_values=0.5, class_token=False, global_pool="avg")


def gated(host: Classifier, gates: list[torch.Tensor]) -> torch.Tensor:
    """The logits of a host whose heads' outputs are multiplied by gates: (heads,) for each block."""
    hooks = [
        block.attn.proj.register_forward_pre_hook(lambda _, tokens, gate=gate: (tokens[0] * gate.repeat_interleave(WIDTH // len(gate)),))
        for block, gate in zip(host.model.blocks, gates, strict=True)
    ]
    logits = host(vits.images(7))
    for hook in hooks:
        hook.remove()
    return logits


def least(host: Classifier, amount: float) -> list[torch.Tensor]:
    """Gates that are 0 for the least important heads by l1, each head's weights summed in a loop."""
    gates = []
    for block in host.model.blocks:
        heads, width = block.attn.num_heads, block.attn.head_dim
        means = []
        for head in range(heads):
            own = range(head * width, (head + 1) * width)
            rows = [block.attn.qkv.weight[part * WIDTH + i].abs() for part in range(3) for i in own]
            means.append(float(torch.cat(rows + [block.attn.proj.weight[:, i].abs() for i in own]).mean()))
        gates.append(torch.ones(heads))
        gates[-1][sorted(range(heads), key=lambda i: means[i])[: round(amount * heads)]] = 0.0
    return gates


@pytest.mark.parametrize("amount", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize("make", [four_heads, four_normalised_heads])
def test_logits_are_those_of_heads_without_output(amount, remove, make) -> None:
    host = vits.made(make)
    found = head_pruning(host, {}, amount=amount, remove=remove)(vits.images(7))
    assert torch.allclose(found, gated(host, least(host, amount)), atol=1e-5)
    assert not torch.allclose(found, host(vits.images(7)), atol=1e-3)


@pytest.mark.parametrize("amount", [0.25, 0.5, 0.75])
def test_macs_fall_by_those_of_the_heads(amount) -> None:
    host, heads, width = vits.made(four_heads), round(4 * amount), WIDTH // 4
    saved = 3 * heads * (TOKENS * 4 * width * WIDTH + 2 * TOKENS**2 * width)
    assert count(head_pruning(host, {}, amount=amount).model, (32, 32)).macs == count(host.model, (32, 32)).macs - saved
    assert count(head_pruning(host, {}, amount=amount, remove=False).model, (32, 32)).macs == count(host.model, (32, 32)).macs


def test_of_the_model_the_least_heads_go_and_one_of_every_block_stays() -> None:
    scores = [torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([9.0, 9.0, 9.0, 9.0])]
    assert [one.int().tolist() for one in least_heads(scores, 0.5, "global")] == [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert [int(one.sum()) for one in least_heads(scores, 0.99, "global")] == [3, 3, 3]
    assert [one.int().tolist() for one in least_heads(scores, 0.5, "layer")] == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert [int(one.sum()) for one in least_heads(scores, 0.99, "layer")] == [3, 3, 3]


def test_taylor_importance_is_that_of_finite_differences() -> None:
    host = vits.made(four_heads, sharp=2.0).double()
    found = fit_importance(host, load_batch, Draws(0, "t", ["t"]), importance="taylor", calibration=Noise(), **FIT)
    labels, step = torch.arange(7) % 5, 1e-5
    for block in range(3):
        slopes = []
        for head in range(4):
            ends = []
            for sign in (1, -1):
                gates = [torch.ones(4, dtype=torch.float64) for _ in range(3)]
                gates[block][head] += sign * step
                ends.append(functional.cross_entropy(gated(host, gates), labels, reduction="none"))
            slopes.append(float(((ends[0] - ends[1]) / (2 * step)).abs().mean()))
        expected = torch.tensor(slopes) / torch.tensor(slopes).norm()
        assert torch.allclose(found[str(block)].float(), expected, atol=1e-4)


def test_taylor_heads_are_taken_from_the_artifact_and_need_calibration() -> None:
    host = vits.made(four_heads)
    taylor = {str(i): torch.tensor([4.0, 1.0, 3.0, 2.0]) for i in range(3)}
    found = head_pruning(host, taylor, amount=0.5, importance="taylor", calibration=Noise())(vits.images(7))
    assert torch.allclose(found, gated(host, [torch.tensor([1.0, 0.0, 1.0, 0.0])] * 3), atol=1e-5)
    draws = Draws(0, "t", ["t"])
    assert fit_importance(host, load_batch, draws, importance="l1", calibration=None, **FIT) == {}
    with pytest.raises(BadParameter, match="importance taylor takes calibration"):
        fit_importance(host, load_batch, draws, importance="taylor", calibration=None, **FIT)


@pytest.mark.parametrize("before", [magnitude, lambda host: low_rank(host, rank_share=0.3), lambda host: low_rank(host, budget=0.8)])
def test_heads_of_pruned_and_factored_projections_are_removed_as_they_are_zeroed(before) -> None:
    host = before(vits.made(four_heads))
    removed, zeroed = (head_pruning(host, {}, amount=0.5, remove=remove) for remove in (True, False))
    assert torch.allclose(removed(vits.images(7)), zeroed(vits.images(7)), atol=1e-5)
    assert count(removed.model, (32, 32)).macs < count(zeroed.model, (32, 32)).macs


@pytest.mark.parametrize("then", [lambda model: model, magnitude, lambda model: low_rank(model, rank_share=0.3)])
def test_heads_are_loaded_with_a_state_dict(then) -> None:
    host, other = vits.made(four_heads), vits.made(four_heads)
    other.model.blocks[0].attn.qkv.weight.mul_(0.01)
    host.model.blocks[2].attn.qkv.weight.mul_(0.01)
    made, empty = (then(head_pruning(one, {}, amount=0.4, scope="global")) for one in (other, host))
    numbers = [[block.attn.num_heads for block in one.model.blocks] for one in (made, empty)]
    assert numbers[0] != numbers[1]
    empty.model.load_state_dict(made.model.state_dict())
    assert torch.equal(empty(vits.images(3)), made(vits.images(3)))


def test_more_heads_than_there_were_are_not_loaded() -> None:
    model = head_pruning(vits.made(four_heads), {}, amount=0.4, scope="global").model
    state = model.state_dict()
    for name, shape in {"qkv.weight": (144, 24), "qkv.bias": (144,), "proj.weight": (24, 48)}.items():
        state[f"blocks.0.attn.{name}"] = torch.zeros(shape)  # of eight heads
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(state)


def test_a_second_time_there_are_fewer_heads() -> None:
    once = head_pruning(vits.made(four_heads), {}, amount=0.5)
    twice = head_pruning(once, {}, amount=0.5)
    assert [block.attn.num_heads for block in twice.model.blocks] == [1, 1, 1]
    assert twice.model.blocks[0].attn.qkv.weight.shape == (18, 24)


def test_attention_that_normalises_over_heads_is_refused() -> None:
    host = vits.made(four_heads)
    host.model.blocks[0].attn.norm = torch.nn.LayerNorm(24)
    with pytest.raises(HostRefused, match="'head_pruning' does not take 'toy': its attention normalises over all heads"):
        head_pruning(host, {})


def test_importance_is_a_mean_over_modules_that_share_a_projection() -> None:
    first, second = (block.attn for block in vits.made(four_heads).model.blocks[:2])
    both = torch.stack([l1_importance([first]), l1_importance([second])]).mean(dim=0)
    assert torch.allclose(l1_importance([first, second]), both)
