"""Smaller tiles are used only where they change no bit."""

import torch
from exact import classifier
from torch import Tensor, nn

import robustvit as rv
from robustvit.primitives.inference.tiling import smallest_exact_size


class Rows(nn.Module):
    """Logits that depend on the pixels alone; counts the rows of each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.batches.append(len(pixels))
        return pixels.flatten(1)[:, :5] * 2.0


class RowCountDependent(Rows):
    """Logits that depend, in their last bits, on how many rows there are, as those of some matrix products do."""

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) * (1.0 + 1e-7 * len(pixels))


class RowCountDependentGradient(Rows):
    """Only its gradient depends on the number of rows."""

    def forward(self, pixels: Tensor) -> Tensor:
        logits = super().forward(pixels)
        return logits + (logits - logits.detach()) * 1e-6 * len(pixels)


def rows_for(module: nn.Module, count: int, tile: int = 64) -> int:
    """The size after so many calls that a probe has paid off."""
    for _ in range(120):
        found = smallest_exact_size(module, torch.rand(count, 3, 4, 4), tile, (module, tile))
    return found


def test_a_model_with_independent_rows_takes_the_next_sixteenth_of_a_tile() -> None:
    module = Rows()
    assert [rows_for(module, count) for count in (1, 4, 5, 33, 59, 61, 64)] == [4, 4, 8, 36, 60, 64, 64]
    assert [rows_for(module, count, 16) for count in (1, 5, 9, 13)] == [4, 8, 12, 16]
    assert [rows_for(module, count, 200) for count in (1, 17, 190)] == [16, 32, 192]


def test_a_size_is_probed_once_its_padding_has_cost_as_much_as_the_probe() -> None:
    module = Rows()
    took = [smallest_exact_size(module, torch.rand(4, 3, 4, 4), 64, (module, 64)) for _ in range(4)]
    assert took == [64, 64, 4, 4]
    assert len(module.batches) == 4


def test_a_size_that_changes_a_bit_of_the_logits_or_of_a_gradient_is_not_taken() -> None:
    assert rows_for(RowCountDependent(), 5) == 64
    assert rows_for(RowCountDependentGradient(), 5) == 64


def test_each_size_is_probed_once() -> None:
    module = Rows()
    rows_for(module, 5)
    before = len(module.batches)
    rows_for(module, 7)
    assert len(module.batches) == before


def test_a_classifier_uses_small_tiles_only_in_their_context() -> None:
    model = classifier(Rows(), tile=32)
    module = model.model
    model(torch.rand(3, 3, 4, 4))
    assert module.batches == [32]
    with model.with_small_tiles():
        for _ in range(20):
            model(torch.rand(3, 3, 4, 4))
    assert module.batches[-1] == 4
    model(torch.rand(3, 3, 4, 4))
    assert module.batches[-1] == 32


def test_the_demo_gives_the_same_bits_with_small_tiles_for_any_number_of_rows() -> None:
    model = rv.load_model("demo")
    pixels = torch.rand(64, 3, 32, 32)
    with torch.no_grad():
        whole = model(pixels)
        with model.with_small_tiles():
            for count in (1, 6, 23, 47) * 20:
                assert torch.equal(model(pixels[:count]), whole[:count])
