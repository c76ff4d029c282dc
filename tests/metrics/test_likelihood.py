import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from robustvit.metrics.likelihood import brier, nll


def test_scores_agree_with_scikit_learn() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=100)
    labels = np.random.default_rng(1).integers(0, 4, 100)
    own = p[np.arange(100), labels]
    records = pd.DataFrame({"nll": -np.log(own), "brier": (p**2).sum(axis=1) - 2 * own + 1})
    assert nll(records).mean() == pytest.approx(log_loss(labels, p, labels=range(4)))
    assert brier(records).mean() == pytest.approx(brier_score_loss(labels, p, scale_by_half=False, labels=range(4)))
