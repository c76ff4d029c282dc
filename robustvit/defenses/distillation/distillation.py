"""Knowledge distillation: a model learns what another predicts, softly, by its decisions, or from a file of its predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, Radius
from robustvit.primitives.training.kept_predictions import KeptPredictions, spread, top_of
from robustvit.primitives.training.two_heads import two_heads
from robustvit.spec.registry import defense

Targets = Callable[[Batch], Tensor]

_CITATION = """@article{hinton2015distilling,
  title={Distilling the Knowledge in a Neural Network},
  author={Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff},
  journal={arXiv preprint arXiv:1503.02531},
  year={2015}
}
@inproceedings{touvron2021training,
  title={Training data-efficient image transformers \\& distillation through attention},
  author={Touvron, Hugo and Cord, Matthieu and Douze, Matthijs and Massa, Francisco and Sablayrolles, Alexandre and J{\\'e}gou, Herv{\\'e}},
  booktitle={International Conference on Machine Learning},
  year={2021}
}
@inproceedings{wu2022tinyvit,
  title={TinyViT: Fast Pretraining Distillation for Small Vision Transformers},
  author={Wu, Kan and Zhang, Jinnian and Peng, Houwen and Liu, Mengchen and Xiao, Bin and Fu, Jianlong and Yuan, Lu},
  booktitle={European Conference on Computer Vision},
  year={2022}
}"""


@defense(
    family="distillation",
    source="Hinton, Vinyals and Dean 2015; hard and token: Touvron et al. 2021 (DeiT); kept: Wu et al. 2022 (TinyViT)",
    url="https://arxiv.org/abs/1503.02531", citation=_CITATION,
    rules="Name the teacher, and its own robustness on the same suites: students take over what it gets wrong. Attacks on the student that "
    "use the teacher as surrogate (transfer) belong beside it. Differs from TinyViT: the draws of the augmentation are keyed, so that no "
    "state of a random generator is kept, and a digest of every image tells predictions of other images.",
)  # fmt: skip
def distillation(
    *, teacher: Classifier, kind: Literal["soft", "hard"] = "soft", alpha: Annotated[float, Ge(0), Le(1)] = 0.5, temperature: Radius = 1.0,
    token: bool = False, top: Count | None = None, kept: str | None = None, sees: Literal["images", "shown"] = "images",
    beside: bool = False,
) -> Defense:  # fmt: skip
    """Distillation (Hinton et al. 2015): (1 − alpha) · cross-entropy + alpha · the divergence from the teacher's prediction.

    teacher: of the classes of the data; images are resized to its size. kind: soft is T² · KL(teacher ‖ student) at a temperature T, hard
    the cross-entropy with the teacher's decision. token: of a model with a distillation token (timm's `deit_*_distilled_*`), whose second
    head learns from the teacher and whose first from the labels. top: the student learns the teacher's most probable classes, and the rest
    of the probability evenly spread over the others (TinyViT takes 10); default all. kept: a file for these predictions: the teacher is run
    where it lacks an image, and not at all where it has all. sees: the images that the teacher sees, as they are or adversarial ones.
    beside: adds alpha · that divergence to the loss of another defense, such as trades, at the cost of another forward and backward pass.
    """
    targets = _targets(teacher, kind, temperature, top, kept, sees)

    def divergence(logits: Tensor, batch: Batch) -> Tensor:
        return distilled(logits, targets(batch), 1.0 if kind == "hard" else temperature)

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        first, second = two_heads(model, batch.shown) if token else (model(batch.shown),) * 2
        plain = functional.cross_entropy(first, batch.targets)
        return (1 - alpha) * plain + alpha * divergence(second, batch) if alpha else plain

    def penalty(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        return alpha * divergence(two_heads(model, batch.shown)[1] if token else model(batch.shown), batch)

    return Defense("distillation", penalty=penalty) if beside else Defense("distillation", loss=loss)


def distilled(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """T² · KL(targets ‖ softmax(logits / T)), a mean over samples, () Tensor. logits, targets: (N, K)."""
    student = (logits / temperature).log_softmax(dim=1)
    return temperature**2 * functional.kl_div(student, targets, reduction="batchmean")


def _targets(teacher: Classifier, kind: str, temperature: float, top: int | None, kept: str | None, sees: str) -> Targets:
    """The distribution (N, K) that the student is to predict for a batch."""
    if kept is not None and sees == "shown":
        raise BadParameter("kept are predictions of images as they are, and adversarial ones differ in every run; leave kept out.")
    about = {"teacher": teacher.card.fingerprint, "kind": kind, "temperature": repr(temperature), "top": str(top)}
    classes = teacher.outputs
    file = None if kept is None else KeptPredictions(kept, about)

    @torch.no_grad()
    def predicted(images: Tensor) -> Tensor:
        logits: Tensor = teacher(at_size(images, teacher))
        if kind == "hard":
            return functional.one_hot(logits.argmax(dim=1), logits.shape[1]).float()
        return (logits / temperature).softmax(dim=1)

    def targets(batch: Batch) -> Tensor:
        images = batch.shown if sees == "shown" else batch.images
        found = None if file is None else file.of(batch.progress.epoch, batch.ids, images)
        if found is not None:
            return spread(*found, classes)
        dense = predicted(images)
        if top is None and file is None:
            return dense
        best = top_of(dense, top or dense.shape[1])
        if file is not None:
            file.add(batch.progress.epoch, batch.ids, images, *best)
        return spread(*best, dense.shape[1])

    return targets


def at_size(images: Tensor, teacher: Classifier) -> Tensor:
    """Images in [0, 1] at the size of a teacher's, resized bicubically where they have another."""
    if images.shape[2:] != torch.Size(teacher.size):
        images = functional.interpolate(images, teacher.size, mode="bicubic", antialias=True)
    return images.clamp(0.0, 1.0)
