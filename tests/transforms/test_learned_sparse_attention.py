"""Learned sparse attention, beside the same prediction and choice of keys by loops over queries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import vits
from reduction import Step, reference
from torch import Tensor

import robustvit as rv
from robustvit.errors import BadParameter, HostRefused
from robustvit.evaluation.cost.macs import count
from robustvit.evaluation.pipelines.costs import costs_of
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.surgery.plain_attention import attention_map, projections_of
from robustvit.spec.view import View
from robustvit.transforms.key_prediction import Captured, Predictor, distance, nearest_projections, sparse
from robustvit.transforms.learned_sparse_attention import fit_predictors, learned_sparse_attention
from robustvit.transforms.pruning.head import head_pruning
from robustvit.transforms.quantisation.dynamic import dynamic_int8
from robustvit.transforms.quantisation.logarithmic import log2
from robustvit.transforms.sparse_attention import sparse_attention
from robustvit.transforms.token_reduction.evit import evit

HOSTS = ["plain", "layer-scale", "registers", "distilled", "average-pooled", "qk-norm"]
GIVEN = {"keep": 0.25, "coefficients": 3, "basis": 5, "samples": 16, "steps": 2}


class Noise:
    """Sixteen images of noise."""

    name, classes, ids, labels = "noise", tuple("abcde"), tuple(map(str, range(16))), np.arange(16) % 5

    def __len__(self) -> int:
        return 16


def load(data: Noise, positions: np.ndarray) -> Batch:
    return Batch(vits.images(16)[positions], torch.from_numpy(data.labels[positions]), tuple(data.ids[at] for at in positions))


def learn(host, seed: int = 0, **more) -> dict[str, Tensor]:
    return fit_predictors(host, load, Draws(seed, "learn", ["learn"]), calibration=Noise(), **GIVEN | more)


def drawn(host, rows: int = 5) -> dict[str, Tensor]:
    """Predictors of random numbers, half of whose basis is 0."""
    depth, tokens = len(host.model.blocks), 16 + host.model.num_prefix_tokens
    shapes = {"query": (6, 12), "key": (6, 12), "pool": (tokens, rows), "basis": (rows, tokens)}
    draw = torch.Generator().manual_seed(3)
    made = {name: torch.randn(depth, *shape, generator=draw) for name, shape in shapes.items()}
    return made | {"query": 0.2 * made["query"], "basis": made["basis"].clamp_min(0.0)}


def applied(host, artifact, **more):
    return learned_sparse_attention(host, artifact, calibration=Noise(), **GIVEN | more)


def by_loops(artifact: dict[str, Tensor], keep: float, coefficients: int):
    """Every head and query in turn: the row of the map that is predicted, and a softmax over its ⌈keep · T⌉ largest entries."""

    def inside(step: Step, block) -> tuple[Tensor, Tensor, Tensor]:
        to_query, to_key, pool, basis = (artifact[name][step.index] for name in ("query", "key", "pool", "basis"))
        total, heads, width = step.query.shape
        mixed = torch.zeros(total, heads, width)
        for head in range(heads):
            sums = [sum(pool[at, row] * (to_key @ step.key[at, head]) for at in range(total)) for row in range(len(basis))]
            for at in range(total):
                alike = [math.exp(float((to_query @ step.query[at, head]) @ one) / math.sqrt(width)) for one in sums]
                most = sorted(range(len(basis)), key=lambda row: -alike[row])[:coefficients]
                row = [sum(alike[one] / sum(alike) * float(basis[one, to]) for one in most) for to in range(total)]
                kept = sorted(range(total), key=lambda to: -row[to])
                kept = kept if at < step.prefix else kept[: math.ceil(keep * total)]
                scores = {to: float(step.query[at, head] @ step.key[to, head]) / math.sqrt(width) for to in kept}
                whole = sum(math.exp(score - max(scores.values())) for score in scores.values())
                for to, score in scores.items():
                    mixed[at, head] += math.exp(score - max(scores.values())) / whole * step.value[to, head]
        return step.tokens, step.sizes, mixed.flatten(1)

    return inside


@pytest.mark.parametrize("make", HOSTS)
@pytest.mark.parametrize(("keep", "coefficients"), [(0.25, 3), (0.5, 1), (0.6, 8)])
def test_it_is_the_same_prediction_and_choice_by_loops(make, keep, coefficients) -> None:
    host, pixels = vits.made(vits.HOSTS[make]), vits.images(2)
    artifact = drawn(host)
    wanted = reference(host, pixels, inside=by_loops(artifact, keep, coefficients)).logits
    assert torch.allclose(applied(host, artifact, keep=keep, coefficients=coefficients)(pixels), wanted, atol=1e-4)
    assert (wanted - host(pixels)).abs().max() > 1e-3


def test_keys_that_are_not_selected_have_a_score_of_minus_infinity() -> None:
    host = vits.made(vits.vit, sharp=2.0)
    attention, tokens = applied(host, drawn(host)).model.blocks[1].attn, torch.randn(2, 17, 24, generator=torch.Generator().manual_seed(4))
    projected = projections_of(attention, tokens)
    chosen = attention.selectors[0](projected.query, projected.key)
    assert chosen.sum(dim=-1).tolist() == [[[17] + 16 * [5]] * 2] * 2
    scores = torch.einsum("nhqd,nhkd->nhqk", projected.query, projected.key) / math.sqrt(12)
    wanted = scores.masked_fill(~chosen, -torch.inf).softmax(dim=-1)
    assert torch.allclose(attention_map(attention, projected), wanted, atol=1e-6)
    assert torch.allclose(attention(tokens), attention.proj((wanted @ projected.value).transpose(1, 2).flatten(2)), atol=1e-5)


def test_all_keys_are_the_host() -> None:
    host, pixels = vits.made(vits.vit), vits.images(2)
    assert learn(host, keep=1) == {}
    assert torch.equal(applied(host, {}, keep=1)(pixels), host(pixels))


@pytest.fixture(scope="module")
def demo():
    """The demo, what it learned of 64 digits in 1 and 50 steps, and queries, keys and maps of each block for digits of both splits."""
    host, data = rv.load_model("demo"), {name: rv.load_data(f"digits?split={name}") for name in ("train", "test")}

    def digits(data, positions) -> Batch:
        images = torch.stack([host.preprocess(data[int(at)].image) for at in positions])
        return Batch(images, torch.from_numpy(data.labels[positions]), tuple(data.ids[at] for at in positions))

    def captured(name: str) -> list[Captured]:
        found: list[Captured] = []
        blocks = host.model.blocks
        capture = [
            block.attn.register_forward_pre_hook(lambda attention, given: found.append(_of(attention, given[0]))) for block in blocks
        ]
        with torch.no_grad():
            host(digits(data[name], np.arange(64)).images)
        for hook in capture:
            hook.remove()
        return found

    given = {"calibration": data["train"], "keep": 0.25, "coefficients": 8, "basis": None, "samples": 64}
    artifacts = [fit_predictors(host, digits, Draws(0, "learn", ["learn"]), steps=steps, **given) for steps in (1, 50)]
    return host, artifacts, captured("train"), captured("test")


def _of(attention, tokens: Tensor) -> Captured:
    projected = projections_of(attention, tokens)
    return Captured(projected.query, projected.key, attention_map(attention, projected))


def mass(maps: Tensor, chosen: Tensor) -> float:
    """How much of the attention of patch tokens goes to chosen keys."""
    return float((maps * chosen)[..., 1:, :].sum(dim=-1).mean())


def largest(scores: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter(-1, scores.expand_as(like).topk(5, dim=-1).indices, 1.0)


def test_the_keys_of_the_demo_have_more_attention_than_those_of_a_mean_map_and_than_random_ones(demo) -> None:
    host, artifacts, train, test = demo
    made = learned_sparse_attention(host, artifacts[1], calibration=Noise(), keep=0.25)
    table = []
    for block, before, found in zip(made.model.blocks, train, test, strict=True):
        maps, random = found.map, torch.rand(found.map.shape, generator=torch.Generator().manual_seed(5))
        learned = block.attn.selectors[0](found.query, found.key)
        mean = before.map.mean(dim=0)
        choices = (random, mean.mean(dim=0), mean, maps)
        table.append([mass(maps, learned), *(mass(maps, largest(one, maps)) for one in choices)])
    learned, random, position, position_and_head, true = np.mean(table, axis=0)
    assert random + 0.3 < learned
    assert position + 0.08 < learned
    assert position_and_head + 0.02 < learned < true
    assert all(row[0] > row[2] + 0.03 for row in table)


def test_more_steps_bring_predictions_nearer_to_the_maps_of_other_images(demo) -> None:
    _, _, _, test = demo
    far, near = (
        [float(distance(Predictor(*(one[name][index] for name in Predictor._fields)), found, 8, 1)) for index, found in enumerate(test)]
        for one in demo[1]
    )
    assert all(after < 0.9 * before for before, after in zip(far, near, strict=True)), (far, near)


def test_the_distance_is_that_of_square_roots_of_attention_relative_to_the_uniform_one() -> None:
    draw = torch.Generator().manual_seed(6)
    query, key = torch.randn(2, 1, 2, 3, 4, generator=draw).unbind(0)
    maps = torch.rand(1, 2, 3, 3, generator=draw)
    of = Predictor(torch.randn(2, 4), torch.randn(2, 4), torch.randn(3, 2), torch.tensor([[0.015, -2.0, 0.5], [1.0, 0.03, -0.01]]))
    total = 0.0
    for head in range(2):
        sums = [sum(of.pool[at, row] * (of.key @ key[0, head, at]) for at in range(3)) for row in range(2)]
        for at in (1, 2):
            alike = [math.exp(float((of.query @ query[0, head, at]) @ one) / 2) for one in sums]
            basis = [[0.0, 2.0, 0.5], [1.0, 0.03, 0.0]]
            for to in range(3):
                predicted = sum(alike[row] / sum(alike) * basis[row][to] for row in range(2))
                total += (math.sqrt(predicted + 1e-6) - math.sqrt(3 * float(maps[0, head, at, to]))) ** 2
    assert float(distance(of, Captured(query, key, maps), 2, 1)) == pytest.approx(total / 12, rel=1e-4)


def test_small_entries_of_a_basis_are_zero_and_can_come_back() -> None:
    basis = torch.tensor([0.02, -0.019, 0.021, -3.0], requires_grad=True)
    assert sparse(basis).tolist() == pytest.approx([0.0, 0.0, 0.021, 3.0])
    assert torch.autograd.grad(sparse(basis).sum(), basis)[0].tolist() == [1.0, -1.0, 1.0, -1.0]


def test_no_projections_of_their_rank_change_products_less() -> None:
    draw = torch.Generator().manual_seed(7)
    query, key = (
        torch.randn(40, 6, generator=draw, dtype=torch.float64) @ torch.randn(6, 6, generator=draw, dtype=torch.float64) for _ in "qk"
    )

    def error(one: Tensor, other: Tensor) -> float:
        return float(((query @ key.T - (query @ one.T) @ (key @ other.T).T) ** 2).mean())

    one, other = nearest_projections(query, key)
    assert one.shape == other.shape == (3, 6)
    singular = torch.linalg.svdvals(query @ key.T)
    assert error(one, other) == pytest.approx(float((singular[3:] ** 2).sum()) / 1600, rel=1e-4)  # that of the best matrix of rank 3
    assert error(one, other) < 0.5 * error(torch.eye(6, dtype=torch.float64)[:3], torch.eye(6, dtype=torch.float64)[:3])


def test_its_macs_are_those_of_the_predictor_and_of_what_is_left() -> None:
    host = vits.made(vits.vit)
    artifact = drawn(host)
    artifact["basis"] = (torch.arange(17) < torch.tensor([2, 9, 4, 17, 3])[:, None]).float().expand(3, -1, -1).clone()
    made = applied(host, artifact)  # 5 of 17 keys, 3 of 5 rows, the longest of 9 + 4 + 17
    head = 2 * 17 * 12 * 6 + 17 * 6 * 5 + 17 * 6 * 5 + 17 * (9 + 4 + 17)  # projections, sums, coefficients, sparse basis
    dense, left = 2 * 17 * 17 * 12, 2 * 12 * (17 + 16 * 5)
    whole = count(host.model, (32, 32)).macs
    assert costs_of(made).macs == whole + 3 * 2 * (head + left - dense)
    assert costs_of(head_pruning(made, {}, amount=0.5)).macs < costs_of(made).macs
    assert costs_of(host).macs == whole


def test_the_smaller_choice_of_two_holds_in_both_orders() -> None:
    host = vits.made(vits.vit, sharp=1.0)
    artifact, pixels = drawn(host), vits.images(2)
    first, second = applied(sparse_attention(host, keep=0.15), artifact), sparse_attention(applied(host, artifact), keep=0.15)
    assert torch.equal(first(pixels), second(pixels))
    attention, tokens = second.model.blocks[0].attn, torch.randn(1, 17, 24, generator=torch.Generator().manual_seed(4))
    projected = projections_of(attention, tokens)
    predicted = attention.selectors[0](projected.query, projected.key)
    found = attention_map(attention, projected) > 0
    assert (found[..., 1:, :].sum(dim=-1) == 3).all()
    assert not (found & ~predicted).any()
    twice = applied(applied(host, artifact), drawn(host) | {"query": -artifact["query"]}, keep=0.15)
    chosen = attention_map(twice.model.blocks[0].attn, projected) > 0
    assert (chosen[..., 1:, :].sum(dim=-1) == 3).all()
    assert not (chosen & ~predicted).any()


@pytest.mark.parametrize("other", [dynamic_int8, lambda host: log2(host, bits=3)])
def test_both_orders_of_it_and_a_quantiser_are_one_model(other) -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    artifact = drawn(host)
    first, second = other(applied(host, artifact)), applied(other(host), artifact)
    assert torch.equal(first(pixels), second(pixels))
    assert all((first(pixels) - alone(pixels)).abs().max() > 1e-3 for alone in (other, lambda host: host) for alone in (alone(host),))


def test_another_number_of_tokens_is_refused_in_one_line() -> None:
    host = vits.made(vits.vit)
    larger = vits.made(lambda: vits.vit(img_size=48))
    larger.view = View((48, 48), 48)
    with pytest.raises(HostRefused, match=r"does not take 'toy': it has learned of 17 tokens, and images of 48x48 pixels have 37; learn"):
        applied(larger, drawn(host))
    with pytest.raises(HostRefused, match="each at its place, and 'toy' computes on fewer; put it first"):
        learn(evit(host, keep=0.5, blocks=(0,)))
    with pytest.raises(HostRefused, match="has learned of 17 tokens, each at its place, and is given 10: it takes images of no other size"):
        evit(applied(host, drawn(host)), keep=0.5, blocks=(0,))(vits.images(1))
    with pytest.raises(BadParameter, match="basis is 18; it takes 1 to 17 rows, as many as model 'toy' has tokens"):
        learn(host, basis=18)


def test_a_reducer_of_the_last_block_reads_it_and_stays_possible() -> None:
    host, pixels = vits.made(vits.vit), vits.images(vits.TILE)
    made = evit(applied(host, drawn(host)), keep=0.5, blocks=(2,))
    made(pixels)
    assert made.model.counted["tokens"].tolist() == [[17.0, 17.0, 10.0]] * vits.TILE


def test_learning_keeps_the_weights_repeats_itself_and_fills_every_block() -> None:
    host = vits.made(vits.vit, sharp=2.0)
    weights = {name: one.clone() for name, one in host.state_dict().items()}
    one, other, third = (learn(host, seed) for seed in (0, 0, 1))
    assert {name: tuple(part.shape) for name, part in one.items()} == {
        "query": (3, 6, 12), "key": (3, 6, 12), "pool": (3, 17, 5), "basis": (3, 5, 17),
    }  # fmt: skip
    assert all(torch.equal(host.state_dict()[name], weight) for name, weight in weights.items())
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any(torch.equal(one[name], third[name]) for name in one)
    assert bool(((one["basis"] == 0) | (one["basis"] > 0.02)).all())
    default = learn(host, coefficients=2, basis=None)
    assert tuple(default["basis"].shape) == (3, 2, 17)
