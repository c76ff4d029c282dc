"""The books of an attack, where one sample stands in a call several times."""

import torch
from exact import classifier, images, linear
from torch import Tensor, nn

from robustvit.primitives.attack_search import GRADIENTS, Search
from robustvit.primitives.draws import Draws

ROWS = torch.tensor([0, 0, 2, 0, 1])


def search(count: int = 3) -> Search:
    model, _ = linear()
    pixels = images(count)
    return Search(model, pixels, model(pixels).argmax(dim=1), Draws(0, "x", [str(i) for i in range(count)]))


def plain(logits: Tensor, rows: Tensor) -> Tensor:
    return logits[:, 1]


def test_every_row_is_a_query_and_a_gradient() -> None:
    books = search()
    books.climb(ROWS, books.images[ROWS], plain)
    books.look(ROWS[:2], books.images[ROWS[:2]])
    assert books.queries.tolist() == [5, 1, 1]
    assert books.gradients.tolist() == [3, 1, 1]


def test_the_first_of_a_samples_rows_that_fool_is_kept() -> None:
    books = search()
    other = 1 - books.images
    wrong = books.model(other).argmax(dim=1) != books.labels
    assert bool(wrong.all())
    dimmed = [books.images[0], other[0], other[2], other[0] * 0.99, books.images[1]]
    books.look(ROWS, torch.stack(dimmed))
    assert torch.equal(books.found[0], other[0])
    assert torch.equal(books.found[2], other[2])
    assert books.fallen.tolist() == [True, False, True]
    assert books.steps.tolist() == [3, -1, 1]


def test_a_gradient_is_absent_where_the_first_row_of_the_first_call_has_none() -> None:
    class Half(nn.Module):
        """No slope where the first pixel is black."""

        def forward(self, pixels: Tensor) -> Tensor:
            score = pixels.flatten(1)[:, 0] * pixels.flatten(1).sum(dim=1)
            return torch.stack((score * 0, score * (pixels.flatten(1)[:, 0] > 0)), dim=1)

    pixels = images(2)
    books = Search(classifier(Half()), pixels, torch.tensor([1, 1]), Draws(0, "x", ["a", "b"]))
    black = pixels.clone()
    black[:, 0, 0, 0] = 0.0
    books.climb(torch.tensor([0, 1, 0, 1]), torch.stack([pixels[0], black[1], black[0], pixels[1]]), plain, candidates=False)
    assert books.outcome().columns["gradient"].tolist() == [GRADIENTS.index("exact"), GRADIENTS.index("absent")]
