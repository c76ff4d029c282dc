"""What a Search records, also where one sample occurs several times in a call."""

import pytest
import torch
from exact import classifier, images, linear
from torch import Tensor, nn

from robustvit.primitives.attack_search import GRADIENTS, Search
from robustvit.primitives.draws import Draws

ROWS = torch.tensor([0, 0, 2, 0, 1])


def begin(count: int = 3) -> Search:
    model, _ = linear()
    pixels = images(count)
    return Search(model, pixels, model(pixels).argmax(dim=1), Draws(0, "x", [str(i) for i in range(count)]))


def class_one(logits: Tensor, rows: Tensor) -> Tensor:
    return logits[:, 1]


def test_every_row_is_a_query_and_a_gradient() -> None:
    search = begin()
    search.query_gradient(ROWS, search.images[ROWS], class_one)
    search.query(ROWS[:2], search.images[ROWS[:2]])
    assert search.queries.tolist() == [5, 1, 1]
    assert search.gradients.tolist() == [3, 1, 1]


def test_the_first_of_a_samples_rows_that_fool_is_kept() -> None:
    search = begin()
    other = 1 - search.images
    wrong = search.model(other).argmax(dim=1) != search.labels
    assert bool(wrong.all())
    dimmed = [search.images[0], other[0], other[2], other[0] * 0.99, search.images[1]]
    search.query(ROWS, torch.stack(dimmed))
    assert torch.equal(search.best[0], other[0])
    assert torch.equal(search.best[2], other[2])
    assert search.misclassified.tolist() == [True, False, True]
    assert search.steps.tolist() == [3, -1, 1]


class Half(nn.Module):
    """The score of class 1 has no gradient where the first pixel is black, and one that is not finite where it is `edge` or more."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        self.edge = edge

    def forward(self, pixels: Tensor) -> Tensor:
        first = pixels.flatten(1)[:, 0]
        score = (first > 0) * pixels.flatten(1).sum(dim=1) + 0.0 * torch.where(first < self.edge, (self.edge - first).sqrt(), 0.0)
        return torch.stack((score * 0 - 1.0, score), dim=1)


def followed(firsts: list[list[float]], edge: float = 1.0) -> Search:
    """A search on two samples of class 1 after a gradient at each of some first pixels."""
    pixels = images(2)
    search = Search(classifier(Half(edge)), pixels, torch.tensor([1, 1]), Draws(0, "x", ["a", "b"]))
    for values in firsts:
        at = pixels.clone()
        at[:, 0, 0, 0] = torch.tensor(values)
        search.query_gradient(torch.tensor([0, 1]), at, class_one, candidates=False)
    return search


@pytest.mark.parametrize(
    ("firsts", "edge", "codes"),
    [
        ([[0.5, 0.0]], 1.0, ["exact", "absent"]),
        ([[0.0, 0.5], [0.5, 0.0], [0.5, 0.0]], 1.0, ["exact", "absent"]),
        ([[0.5, 0.5], [1.0, 0.5], [0.5, 0.5]], 1.0, ["inside", "exact"]),
        ([[0.5, 0.5], [1.0, 0.5], [0.5, 0.5]], 0.9, ["not finite", "exact"]),
    ],
    ids=["at the only point", "at the first point alone, and at all but the first", "on the edge", "on the edge and inside"],
)
def test_a_gradient_is_judged_by_all_that_were_taken(firsts: list[list[float]], edge: float, codes: list[str]) -> None:
    assert [GRADIENTS[code] for code in followed(firsts, edge).outcome().columns["gradient"].tolist()] == codes


@pytest.mark.parametrize(("edge", "first"), [(1.0, 1.0), (0.9, 0.0)])
def test_of_a_gradient_that_is_not_finite_the_other_values_are_followed(edge: float, first: float) -> None:
    search = followed([], edge)
    at = search.images.clone()
    at[0, 0, 0, 0] = 1.0
    gradient = search.query_gradient(torch.tensor([0]), at[:1], class_one, candidates=False).gradient
    assert gradient.flatten().tolist() == [first] + [1.0] * 47


def test_zero_gradients_where_the_model_is_wrong_already_are_not_missed() -> None:
    search = followed([])
    search.labels = torch.tensor([0, 0])
    search.query_gradient(torch.tensor([0, 1]), search.images, lambda logits, rows: 0.0 * logits[:, 1], candidates=False)
    assert [GRADIENTS[code] for code in search.outcome().columns["gradient"].tolist()] == ["exact", "exact"]
