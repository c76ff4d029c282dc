"""Similarity of the features of some samples in two places: centred kernel alignment with the unbiased estimator of HSIC."""

from __future__ import annotations

import torch
from torch import Tensor


def gram(features: Tensor) -> Tensor:
    """(groups, n, n) float64: inner products of (groups, n, D) features within each group, less their mean, which HSIC does not see."""
    centred = features.double()
    centred = centred - centred.mean(dim=1, keepdim=True)
    return centred @ centred.transpose(1, 2)


def unbiased_hsic(first: Tensor, second: Tensor) -> Tensor:
    """(…,): the unbiased Hilbert-Schmidt independence criterion of (…, n, n) Gram matrices, HSIC₁ of Song et al. 2012.

    Of independent features it is 0 on average. n is at least 4; leading dimensions are broadcast.
    """
    n = first.shape[-1]
    one, other = (matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1)) for matrix in (first, second))
    rows, columns = one.sum(dim=-1), other.sum(dim=-1)
    products = (one * other).sum(dim=(-2, -1))
    totals = rows.sum(dim=-1) * columns.sum(dim=-1) / ((n - 1) * (n - 2))
    return (products + totals - 2 / (n - 2) * (rows * columns).sum(dim=-1)) / (n * (n - 3))
