"""How the forward passes of a module are carried out where no gradient is needed: memory format, compilation, CUDA graphs.

A mode changes how long a pass takes, and at most the last bits of logits. `robustvit.evaluation.cost.fastest_forward` takes one only where
a probe on real images shows that it gains time and that no prediction changes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

CHANNELS_LAST, COMPILED, CUDA_GRAPH = "channels-last", "compiled", "cuda-graph"
STEPS = (CHANNELS_LAST, COMPILED, CUDA_GRAPH)
_WARM_UP = 3  # passes before a capture, in which libraries choose their kernels

Forward = Callable[[Tensor], Tensor]
Replay = Callable[[], None]
Capture = Callable[[Forward, Tensor], tuple[Tensor, Replay]]


@dataclass
class ForwardMode:
    """A way of calling a module. steps: some of STEPS, each once; none is eager mode.

    channels-last: images are given in that memory format, in which some devices convolve faster. compiled: by `torch.compile`, for one
    shape; the first pass of a shape takes a minute. cuda-graph: the kernels of a pass are recorded once for each shape and then replayed by
    one launch, which small batches gain by.
    """

    steps: tuple[str, ...] = ()
    _made: dict[int, tuple[nn.Module, Forward]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """`channels-last, compiled`; "" of eager mode."""
        return ", ".join(self.steps)

    def call(self, module: nn.Module, normal: Tensor) -> Any:
        """What the module returns for normalised images (N, C, H, W). Without gradients."""
        if not self.steps:
            return module(normal)
        if CHANNELS_LAST in self.steps:
            normal = normal.contiguous(memory_format=torch.channels_last)
        known = self._made.get(id(module))
        if known is None or known[0] is not module:
            known = self._made[id(module)] = module, self._forward_of(module)
        return known[1](normal)

    def _forward_of(self, module: nn.Module) -> Forward:
        forward: Forward = torch.compile(module, dynamic=False) if COMPILED in self.steps else module
        return GraphedForward(forward, module) if CUDA_GRAPH in self.steps else forward


EAGER = ForwardMode()


class GraphedForward:
    """The forward pass of a module as CUDA graphs, one for each shape and dtype, captured when such a batch is first met.

    A graph reads its input and the weights where they lay when it was captured: the input is copied there, and where weights were moved
    meanwhile it is captured anew. capture: records a pass on an example; returns its output, and what computes that output again.
    """

    def __init__(self, forward: Forward, module: nn.Module, capture: Capture | None = None) -> None:
        self._forward, self._module, self._capture = forward, module, capture or capture_graph
        self._graphs: dict[Hashable, tuple[tuple[int, ...], Tensor, Tensor, Replay]] = {}

    def __call__(self, normal: Tensor) -> Tensor:
        """What the module returns for the images, in memory of its own."""
        key = (tuple(normal.shape), normal.stride(), normal.dtype, normal.device, torch.get_autocast_dtype(normal.device.type),
               torch.is_autocast_enabled(normal.device.type))  # fmt: skip
        places = tuple(one.data_ptr() for one in (*self._module.parameters(), *self._module.buffers()))
        known = self._graphs.get(key)
        if known is None or known[0] != places:
            given = normal.clone()
            known = self._graphs[key] = places, given, *self._capture(self._forward, given)
        _, given, output, replay = known
        given.copy_(normal)
        replay()
        return output.clone()


def capture_graph(forward: Forward, given: Tensor) -> tuple[Tensor, Replay]:
    """Records a pass as a CUDA graph: its output, which each replay overwrites, and the replay."""
    side = torch.cuda.Stream(given.device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(given.device))
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            forward(given)
    torch.cuda.current_stream(given.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = forward(given)
    return output, graph.replay
