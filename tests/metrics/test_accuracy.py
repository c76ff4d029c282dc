import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from robustvit.metrics.accuracy import error, top1, top5


def test_accuracies_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(200, 9)), rng.integers(0, 9, 200)
    ranks = 1 + (scores > scores[np.arange(200), labels][:, None]).sum(axis=1)
    records = pd.DataFrame({"label": labels, "pred": scores.argmax(axis=1), "rank": ranks})
    assert top1(records).mean() == accuracy_score(labels, scores.argmax(axis=1))
    assert top5(records).mean() == top_k_accuracy_score(labels, scores, k=5)


def test_error_is_what_top1_leaves() -> None:
    records = pd.DataFrame({"label": [0, 1, 2], "pred": [0, 2, 2]})
    assert (error(records) == 1 - top1(records)).all()
