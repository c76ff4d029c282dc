import pytest
import torch

from robustvit.errors import ModelError
from robustvit.primitives.reading import Reading, label_rank, prediction_columns


def test_columns_read_the_logits_of_the_labels_in_their_order() -> None:
    assert Reading("two", 2, columns=(3, 1)).read(torch.tensor([[0.0, 1.0, 2.0, 3.0]])).tolist() == [[3.0, 1.0]]


def test_mean_pooling_reads_a_group_by_the_mean_of_its_probabilities() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, 0.5]])
    p = torch.softmax(logits.double(), dim=1)[0]
    read = Reading("two", 2, groups=((0, 2), (1, 3)), pool="mean").read(logits)
    assert read[0].exp().tolist() == pytest.approx([float(p[0] + p[2]) / 2, float(p[1] + p[3]) / 2])


def test_max_pooling_reads_a_group_by_its_best_logit() -> None:
    read = Reading("two", 2, groups=((0, 2), (1, 3))).read(torch.tensor([[0.1, 3.0, 0.2, -1.0]]))
    assert read.tolist() == [[pytest.approx(0.2), pytest.approx(3.0)]]


def test_a_reading_of_groups_checks_the_number_of_logits() -> None:
    with pytest.raises(ModelError, match="read from 4 logits"):
        Reading("two", 2, outputs=4, groups=((0, 2), (1, 3))).check(5, "m", "d")


def test_label_rank_equals_the_rank_column_ties_included() -> None:
    scores = torch.randint(0, 4, (200, 9), generator=torch.Generator().manual_seed(0)).float()
    labels = torch.randint(0, 9, (200,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(label_rank(scores, labels), prediction_columns(scores, labels)["rank"])
