"""MART: adversarial training that weighs images by how far they are from being classified correctly."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustvit.errors import BadParameter
from robustvit.primitives.batch import Batch
from robustvit.primitives.defense import Defense
from robustvit.primitives.draws import Draws
from robustvit.primitives.limits import Count, NonNegative, Radius
from robustvit.primitives.training.ascent import Adversary, TrainingNorm, small_noise, summed_cross_entropy
from robustvit.primitives.training.crafting import Mode
from robustvit.spec.registry import defense

_CITATION = """@inproceedings{wang2020improving,
  title={Improving Adversarial Robustness Requires Revisiting Misclassified Examples},
  author={Wang, Yisen and Zou, Difan and Yi, Jinfeng and Bailey, James and Ma, Xingjun and Gu, Quanquan},
  booktitle={International Conference on Learning Representations},
  year={2020}
}"""


@defense(
    family="adversarial", source="Wang et al. 2020", url="https://openreview.net/forum?id=rklOg6EFwS", citation=_CITATION,
    licence="the authors' code has no licence; this is written from the paper",
    rules="Evaluate under AutoAttack at the eps of training and at twice it: it is known to look better under weaker attacks. "
    "Logarithms are of log-softmax, in place of small constants added to probabilities.",
)  # fmt: skip
def mart(
    *, eps: NonNegative, beta: NonNegative = 5.0, norm: TrainingNorm = "linf", steps: Count = 10, step: Radius | None = None,
    warmup: NonNegative = 0.0, mode: Mode = "eval",
) -> Defense:  # fmt: skip
    """MART (Wang et al. 2020): boosted cross-entropy of adversarial images + beta · the mean of KL(p‖q)(1 − p of the label).

    eps: radius in pixel units; write 8/255. The boosted cross-entropy is −log q_y − log(1 − max q_k over k ≠ y), q the prediction of an
    image that ascends the cross-entropy from normal noise of 0.001, p that of the image. warmup: epochs over which eps rises from 0. mode:
    of the model while images are made. Raises BadParameter for soft labels.
    """
    adversary = Adversary(eps, norm, steps, step, warmup)

    def craft(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        return adversary.ascend(model, batch, lambda _: small_noise(batch, draws), summed_cross_entropy(batch))

    def loss(model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        if batch.soft_labels is not None:
            raise BadParameter("the defense 'mart' weighs images by their label, and these have soft labels; leave out what makes them so.")
        adversarial = model(batch.shown)
        boosted = boosted_cross_entropy(adversarial, batch.labels)
        return boosted + beta * weighted_divergence(model(batch.images), adversarial, batch.labels) if beta else boosted

    return Defense("mart", craft=craft, loss=loss, crafting=mode)


def boosted_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over samples of −log q_y − log(1 − max q_k over k ≠ y), logits (N, K)."""
    logs = logits.log_softmax(dim=1)
    label = functional.one_hot(labels, logits.shape[1]).bool()
    runner_up = logs.masked_fill(label, -torch.inf).argmax(dim=1, keepdim=True)
    others = logs.scatter(1, runner_up, -torch.inf).logsumexp(dim=1)  # log(1 − q of the runner-up), however near to 1 that is
    return (-logs[label] - others).mean()


def weighted_divergence(natural: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
    """The mean over samples of KL(p‖q)(1 − p_y), p of the natural logits (N, K) and q of the adversarial ones."""
    logs = natural.log_softmax(dim=1)
    each = functional.kl_div(adversarial.log_softmax(dim=1), logs, reduction="none", log_target=True).sum(dim=1)
    return (each * (1.0 - logs.gather(1, labels[:, None])[:, 0].exp())).mean()
