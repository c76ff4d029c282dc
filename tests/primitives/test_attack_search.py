"""What a Search records, also where one sample occurs several times in a call."""

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


def test_a_gradient_is_absent_where_the_first_row_of_the_first_call_has_none() -> None:
    class Half(nn.Module):
        """No gradient where the first pixel is black."""

        def forward(self, pixels: Tensor) -> Tensor:
            score = pixels.flatten(1)[:, 0] * pixels.flatten(1).sum(dim=1)
            return torch.stack((score * 0, score * (pixels.flatten(1)[:, 0] > 0)), dim=1)

    pixels = images(2)
    search = Search(classifier(Half()), pixels, torch.tensor([1, 1]), Draws(0, "x", ["a", "b"]))
    black = pixels.clone()
    black[:, 0, 0, 0] = 0.0
    search.query_gradient(torch.tensor([0, 1, 0, 1]), torch.stack([pixels[0], black[1], black[0], pixels[1]]), class_one, candidates=False)
    assert search.outcome().columns["gradient"].tolist() == [GRADIENTS.index("exact"), GRADIENTS.index("absent")]
