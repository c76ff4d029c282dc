"""Forward modes call a module as they say, give what eager passes give, and are used where a classifier is told to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robustvit as rv
from robustvit.primitives.inference.forward_modes import EAGER, ForwardMode, GraphedForward, Replay

LAST = torch.channels_last


class Seen(nn.Module):
    """Class means of pixels, after a weight; notes the memory format of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.last: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.last.append(images.is_contiguous(memory_format=LAST) and not images.is_contiguous())
        return images.mean(dim=(2, 3)) * self.weight


class Recorder:
    """A capture on any device: a replay computes the pass anew, from the memory and the weights that it was captured with."""

    def __init__(self) -> None:
        self.captures = 0

    def __call__(self, forward: Any, given: Tensor) -> tuple[Tensor, Replay]:
        self.captures += 1
        output = torch.full_like(forward(given), torch.nan)

        def replay() -> None:
            output.copy_(forward(given))

        return output, replay


def images(seed: int, rows: int = 4, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(rows, 3, 6, 6, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_channels_last_gives_the_images_in_that_format() -> None:
    module = Seen()
    given = images(0)
    eager, last = EAGER.call(module, given), ForwardMode(("channels-last",)).call(module, given)
    assert module.last == [False, True]
    torch.testing.assert_close(eager, last)
    assert given.is_contiguous()


def test_compiled_passes_are_of_one_shape_and_made_once_for_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[nn.Module, Any]] = []

    def compiled(module: nn.Module, **how: Any) -> Any:
        asked.append((module, how))
        return lambda given: module(given) + 1

    monkeypatch.setattr(torch, "compile", compiled)
    mode, first, second = ForwardMode(("compiled",)), Seen(), Seen()
    for module in (first, first, second, first):
        assert torch.equal(mode.call(module, images(0)), module(images(0)) + 1)
    assert asked == [(first, {"dynamic": False}), (second, {"dynamic": False})]


def test_a_graph_is_captured_once_for_a_shape_and_gives_each_batch_its_own_logits() -> None:
    module, recorder = Seen(), Recorder()
    graphed = GraphedForward(module, module, recorder)
    found = [graphed(images(seed)) for seed in range(3)]
    assert [torch.equal(one, module(images(seed))) for seed, one in enumerate(found)] == [True] * 3
    assert recorder.captures == 1
    for other in (images(3, rows=2), images(3, dtype=torch.float64), images(3).contiguous(memory_format=LAST)):
        assert torch.equal(graphed(other), module(other))
    assert recorder.captures == 4
    assert torch.equal(graphed(images(0)), found[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        graphed(images(0))
    assert recorder.captures == 5


def test_a_graph_is_captured_anew_where_weights_were_moved_and_not_where_they_were_changed() -> None:
    module, recorder = Seen(), Recorder()
    graphed = GraphedForward(module, module, recorder)
    graphed(images(0))
    module.weight.data.mul_(2)
    assert torch.equal(graphed(images(0)), module(images(0)))
    assert recorder.captures == 1
    module.weight.data = torch.tensor([5.0, 6.0, 7.0])
    assert torch.equal(graphed(images(0)), module(images(0)))
    assert recorder.captures == 2


def test_a_mode_is_used_within_its_context_and_without_gradients_alone() -> None:
    module = Seen()
    model = rv.Classifier(module, mean=0.0, std=1.0, size=6, tile=4)
    model.forward_mode = ForwardMode(("channels-last",))
    seen = model.model.last
    with torch.no_grad():
        model(images(0))
        with model.in_forward_mode():
            model(images(0))
            with torch.enable_grad():
                model(images(0))
        model(images(0))
    with model.in_forward_mode():
        model(images(0))
    assert seen == [False, True, False, False, False]


def test_names() -> None:
    assert (EAGER.name, ForwardMode(("channels-last", "cuda-graph")).name) == ("", "channels-last, cuda-graph")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_give_the_logits_of_eager_passes() -> None:
    model = rv.load_model("demo", device="cuda", tile=8)
    given = torch.rand(20, 3, 32, 32, device="cuda")
    with torch.no_grad():
        eager = model(given)
        model.forward_mode = ForwardMode(("cuda-graph",))
        with model.in_forward_mode():
            assert torch.equal(model(given), eager)


@pytest.mark.long
def test_compiled_passes_give_the_logits_of_eager_ones() -> None:
    model = rv.load_model("demo", tile=8)
    given = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        eager = model(given)
        model.forward_mode = ForwardMode(("channels-last", "compiled"))
        with model.in_forward_mode():
            torch.testing.assert_close(model(given), eager, rtol=1e-4, atol=1e-4)
