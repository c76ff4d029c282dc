"""How curved the loss is in a model's weights, on clean images and on shifted ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from robustvit.errors import BadParameter
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.draws import Draws
from robustvit.primitives.inference.keyed import bound_rows
from robustvit.primitives.inference.weight_hessian import LossHessian, lanczos
from robustvit.primitives.passes import Passes, product_of
from robustvit.primitives.scenarios.shifted_images import Attack, Corruption, both, shifted_images, shifted_passes
from robustvit.spec.registry import analysis
from robustvit.spec.spec import Spec

_PRODUCT = 8.0  # a product with the Hessian, in forward passes of its images; measured
_GRAPH = 12.0  # the loss and its gradient with their graph


@analysis(
    family="insides", severity="corruption.severity", group="group", reads_labels=True,
    source="Park and Kim 2022, How Do Vision Transformers Work?; trace: Hutchinson 1990", url="https://arxiv.org/abs/2202.06709",
    licence="Apache-2.0; no code is used", passes="hessian_passes",
    rules="The paper takes augmented training images and the weight decay of training; here the loss is of the images that are evaluated, "
    "and decay adds 2·decay to every eigenvalue. The paper's power iteration is replaced by Lanczos' method, which finds the same "
    "eigenvalues in fewer products. It keeps `steps` vectors of the size of the model in memory.",
)  # fmt: skip
def hessian(
    model: Classifier, images: Tensor, labels: Tensor, draws: Draws, *, corruption: Corruption | None = None, attack: Attack | None = None,
    group: Literal[8, 16, 32, 64, 128] = 16, eigenvalues: Annotated[int, Ge(1)] = 5, steps: Annotated[int, Ge(1)] = 20,
    probes: Annotated[int, Ge(0)] = 8, decay: Annotated[float, Ge(0)] = 0.0,
) -> dict[str, Tensor]:  # fmt: skip
    """Eigenvalues and trace of the Hessian of the loss of a group of images in all weights of the model.

    corruption, attack: what shifts the images, one of them or neither; an attack is run whether or not the image is classified correctly.
    The loss is the mean cross-entropy of the group's images against their labels plus decay·|w|², in evaluation mode. group: how many
    images are a group, the next in evaluation order, which share the values. eigenvalues: how many, the largest in magnitude first; steps:
    products from which they are found, at least as many; probes: random vectors from which the trace is estimated, without bias; 0 leaves
    it out. Columns: value_clean_eigenvalue, a list; value_clean_residual, a list of how far these are from an eigenvalue at most;
    value_clean_trace; of shifted images value_shifted_NAME. Raises HostRefused for a model with fewer weights than eigenvalues.
    """
    if steps < eigenvalues:
        raise BadParameter(f"hessian finds {eigenvalues} eigenvalues from at least as many steps; got steps={steps}.")
    shifted = shifted_images("hessian", model, images, labels, draws, corruption, attack)

    def measure(some: Tensor) -> dict[str, Tensor]:
        rows = torch.split(torch.arange(len(some)), group)
        found = [_of_group(bound_rows(model, part), some[part], labels[part], draws[part[:1]]) for part in rows]
        return {name: torch.stack([one[name] for one in found]) for name in found[0]}

    def _of_group(own: Classifier, some: Tensor, right: Tensor, vectors: Draws) -> dict[str, Tensor]:
        with LossHessian(own, some, right, decay) as curvature:
            like = curvature.weights[0]

            def vector(number: int) -> Tensor:
                return vectors.at(f"start {number}").normal(curvature.size)[0].to(like)

            spectrum = lanczos(curvature.times, vector, steps)
            if len(spectrum.values) < eigenvalues:
                raise BadParameter(f"model '{model.card.label}' has {curvature.size} weights, and {eigenvalues} eigenvalues are wanted.")
            signs = ((vectors.at(f"probe {turn}").uniform(curvature.size)[0] < 0.5).to(like) * 2 - 1 for turn in range(probes))
            traces = [float(one.double() @ curvature.times(one).double()) for one in signs]
        found = {"eigenvalue": spectrum.values[:eigenvalues], "residual": spectrum.residuals[:eigenvalues]}
        found |= {"trace": torch.tensor(sum(traces) / probes, dtype=torch.float64)} if probes else {}
        return {name: values.float() for name, values in found.items()}

    return both(measure, images, shifted)


def hessian_passes(spec: Spec, model: Classifier, plugins: Mapping[str, Any]) -> Passes | None:
    """As many products as there are steps and probes, and the gradient that these are derivatives of."""
    return shifted_passes(_PRODUCT * (product_of(spec, "steps") + product_of(spec, "probes")) + _GRAPH, plugins)
