"""The weighted k-nearest-neighbour readout of DINO, with differentiable logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.primitives.batch import Data
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius, Whole
from robustvit.primitives.passes import GRADIENT, Passes
from robustvit.primitives.surgery.heads import Pool
from robustvit.primitives.surgery.modules import changed, unchanged
from robustvit.primitives.surgery.readouts import LoadImages, labelled_features, read_out
from robustvit.spec.registry import transform
from robustvit.spec.spec import Spec


class NearestNeighbours(nn.Module):
    """Logits of features by their nearest neighbours in a bank of features of length 1, (n, D), with labels, (n,).

    The logit of a class is the logarithm of the votes that it gets: exp(cosine / temperature) of each of its samples among the k nearest,
    and exp(−1 / temperature), that of the farthest there could be, once, so that it is finite for every class.
    """

    bank: Tensor
    labels: Tensor

    def __init__(self, bank: Tensor, labels: Tensor, classes: int, k: int, temperature: float) -> None:
        super().__init__()
        self.register_buffer("bank", bank, persistent=False)  # a checkpoint has it as what the transform learned
        self.register_buffer("labels", functional.one_hot(labels, classes).bool(), persistent=False)
        self.k, self.temperature = min(k, len(bank)), temperature

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) → (N, K)."""
        similar = functional.normalize(features.to(self.bank.dtype), dim=1) @ self.bank.T
        votes, nearest = (similar.float() if similar.dtype != torch.float64 else similar).topk(self.k, dim=1)
        of_class = self.labels[nearest].transpose(1, 2)
        each = (votes / self.temperature).unsqueeze(1).masked_fill(~of_class, -torch.inf)
        least = each.new_full((*each.shape[:2], 1), -1 / self.temperature)
        return torch.cat((each, least), dim=2).logsumexp(dim=2)


@transform(
    family="readout", source="Wu et al. 2018; as in Caron et al. 2021 (DINO)", url="https://arxiv.org/abs/2104.14294", hosts="any",
    no_op="k=0", head="data", fit="fit_bank", passes="fit_passes",
    citation="""@inproceedings{caron2021emerging,
  title={Emerging Properties in Self-Supervised Vision Transformers},
  author={Caron, Mathilde and Touvron, Hugo and Misra, Ishan and J{\\'e}gou, Herv{\\'e} and Mairal, Julien and Bojanowski, Piotr and Joulin,
    Armand},
  booktitle={IEEE/CVF International Conference on Computer Vision},
  year={2021}
}""",
    rules="Learns of labelled samples, which are not those that are judged. Predictions are DINO's; its votes become logits by their "
    "logarithm, and every class has one more vote of the least weight there is, so that gradients are finite. Samples beyond the k nearest "
    "have no gradient.",
)  # fmt: skip
def knn(
    model: Classifier, artifact: Mapping[str, Tensor], *, data: Data, k: Whole = 20, temperature: Radius = 0.07,
    shots: Count | None = None, pool: Pool = "own",
) -> Classifier:  # fmt: skip
    """Weighted k-nearest neighbours among the features of labelled samples (DINO, Caron et al. 2021), in the place of the head.

    data: the labelled samples; the logits are its classes. k: how many neighbours vote, each with exp(cosine / temperature); 0 keeps the
    head. shots: so many samples of each class, drawn by the seed, instead of all. pool: what the features are, before the head: `own`, as
    the model reads them, or the `class` token or the `mean` of patch tokens of timm's plain vision transformer. Takes headless models.
    Raises HostRefused where no linear layer makes the logits, BadParameter where a class has fewer samples than `shots`.
    """
    if not k:
        return changed(model, unchanged)
    like: Any = model.mean
    bank = artifact["features"].to(like)
    layer = NearestNeighbours(bank, artifact["labels"].to(like.device), int(artifact["classes"]), k, temperature)
    return read_out(model, layer, pool, data)


def fit_bank(
    model: Classifier, load_batch: LoadImages, draws: Draws, *, data: Data, k: int, temperature: float, shots: int | None, pool: Pool
) -> dict[str, Tensor]:  # fmt: skip
    """The features of the labelled samples, scaled to length 1, their labels, and how many classes there are."""
    if not k:
        return {}
    found = labelled_features(model, load_batch, draws, data, shots, pool)
    return {"features": functional.normalize(found.features, dim=1), "labels": found.labels, "classes": torch.tensor(found.classes)}


def fit_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes:
    """Nothing for a sample that it is applied to; a forward pass for each labelled sample, once."""
    data = plugins["data"]
    shots = spec.get("shots")
    count = len(data) if not isinstance(shots, int) else min(len(data), shots * len(data.classes))
    return Passes(fit=0.0 if spec.get("k") == 0 else count / GRADIENT)
