"""The blocks of a transformer in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from robustvit.errors import BadParameter, HostRefused, ModelError
from robustvit.primitives.classifier import Classifier
from robustvit.primitives.classifier_views import around, constructor_arguments
from robustvit.primitives.draws import Draws
from robustvit.primitives.lesions.block_sequence import block_count, with_blocks
from robustvit.primitives.lesions.seeded_choices import listed_orders
from robustvit.primitives.limits import Count, Whole
from robustvit.spec.registry import transform

CITATION = """@article{freiberger2024layershuffle,
  title={LayerShuffle: Enhancing Robustness in Vision Transformers by Randomizing Layer Execution Order},
  author={Freiberger, Matthias and Kun, Peter and L{\\o}vlie, Anders Sundnes and Risi, Sebastian},
  journal={arXiv preprint arXiv:2407.04513},
  year={2024}
}"""
Order = Literal["sequential", "reversed", "swapped", "random", "drawn"]


@transform(
    family="depth", source="Freiberger et al. 2024 (LayerShuffle)", url="https://arxiv.org/abs/2407.04513", citation=CITATION,
    licence="the authors' code has no licence; this is written from the paper", hosts="sequence", no_op="order=sequential",
    rules="Report accuracy in order beside that under other orders. Random orders are seeded, where the authors' are not, and drawn shares "
    "an order among no batch: theirs depends on the batch size of the evaluation.",
)  # fmt: skip
def block_order(
    model: Classifier, *, order: Order = "reversed", swap: Whole = 0, index: Whole = 0, count: Count = 25, seed: Whole = 0
) -> Classifier:  # fmt: skip
    """Computes the blocks of a transformer in another order; embeddings, the last norm and the head stay where they are.

    order: sequential changes nothing; reversed; swapped, blocks `swap` and `swap` + 1 exchanged; random, number `index` of the listed
    orders; drawn, one of these for each sample, from the run's seed and the sample's id. The listed orders are all where the factorial of
    the depth is at most `count`, else `count` distinct random ones of `seed`. Gradients are exact. Raises BadParameter for a swap or an
    index that the model does not have.
    """
    depth = block_count(model, "block_order")
    orders = listed_orders(depth, count, seed)
    if order == "drawn":
        return _DrawnOrders(model, orders)
    return with_blocks(model, _chosen(order, orders, depth, swap, index, model.card.label))


def _chosen(order: str, orders: Sequence[tuple[int, ...]], depth: int, swap: int, index: int, label: str) -> tuple[int, ...]:
    if order == "swapped" and depth < 2:
        raise HostRefused(f"'block_order' exchanges two blocks, and '{label}' has one.")
    if order == "swapped" and swap > depth - 2:
        raise BadParameter(f"block_order: swap is {swap}; model '{label}' has {depth} blocks, so that it takes 0 to {depth - 2}.")
    if order == "random" and index >= len(orders):
        raise BadParameter(f"block_order: index is {index}; model '{label}' has {len(orders)} listed orders, 0 to {len(orders) - 1}.")
    ascending = tuple(range(depth))
    return {
        "sequential": ascending, "reversed": ascending[::-1], "random": orders[min(index, len(orders) - 1)],
        "swapped": (*ascending[:swap], *ascending[swap : swap + 2][::-1], *ascending[swap + 2 :]),
    }[order]  # fmt: skip


class _DrawnOrders(Classifier):
    """A classifier whose blocks compute in an order that is drawn for each sample. draws: of its rows, once it is bound."""

    def __init__(
        self, host: Classifier, orders: Sequence[tuple[int, ...]], draws: Draws | None = None, ordered: nn.ModuleList | None = None
    ) -> None:  # fmt: skip
        super().__init__(**constructor_arguments(host))
        self.host, self.orders, self.draws = host, tuple(orders), draws
        self.ordered = nn.ModuleList(with_blocks(host, order) for order in orders) if ordered is None else ordered
        self.gradient = host.gradient

    def with_module(self, module: nn.Module) -> Classifier:
        """The same orders of the blocks of another module. Raises HostRefused for one of another number of blocks."""
        made = around(self.host, module)
        if (depth := block_count(made, "block_order")) != len(self.orders[0]):
            raise HostRefused(
                f"'{self.card.label}' computes {len(self.orders[0])} blocks in drawn orders, and this transform leaves {depth}; name "
                "block_order(order=drawn) after it."
            )
        return _DrawnOrders(made, self.orders)

    @property
    def outputs(self) -> int:
        """The number of logits of its host."""
        return self.host.outputs

    def configure(self, *, tile: int | None = None, precision: str | None = None) -> Classifier:
        """Sets rows per tile and arithmetic precision, in every order; returns itself."""
        for part in (self.host, *self.ordered) if "ordered" in self._modules else ():
            part.configure(tile=tile, precision=precision)  # type: ignore[operator]
        return super().configure(tile=tile, precision=precision)

    def bound(self, draws: Draws) -> Classifier:
        """The model with the orders that the draws give to its rows."""
        return _DrawnOrders(self.host, self.orders, draws, self.ordered)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float in [0, 1] → (N, K) float32 logits; rows of one order are computed together.

        Raises ModelError before it is bound to draws.
        """
        if self.draws is None:
            raise ModelError(
                f"model '{self.card.label}' draws an order of blocks for each sample: bind it to samples first, `model.bound(draws)`."
            )
        choice = self.draws.at("order of blocks").integers(1, low=0, high=len(self.orders))[:, 0]
        groups = [(number, (choice == number).nonzero()[:, 0]) for number in sorted(set(choice.tolist()))]
        if not groups:
            return self.host(images)  # type: ignore[no-any-return]
        logits = [self.ordered[number].bound(self.draws[rows])(images[rows]) for number, rows in groups]  # type: ignore[operator]
        return torch.cat(logits)[torch.cat([rows for _, rows in groups]).argsort()]
