"""A dlc network run by PyTorch, node by node, with the references of tests/operators: values, loss and gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backends.numpy_mpi.kernels.philox import dropout_forward
from dlc.ir.graph import Graph, Node
from passes.differentiate import roles
from passes.streams import stream_key
from tests.operators.case import Reference
from tests.operators.cases import references

torch.set_num_threads(1)  # tests run side by side: two threads each on two cores wait for one another

DTYPES = {"f64": torch.float64, "f32": torch.float32}
REFERENCED = ("sgd", "adam", "adamw")
"""Optimizers that stand beside PyTorch's here; all of them do in tests/kernels."""

Tensors = dict[str, Tensor]


@cache
def reference(op: str) -> Reference:
    return references()[op]


@dataclass(frozen=True, slots=True)
class TorchNetwork:
    """The graph of a network with loss (before differentiation), its types those of the run."""

    graph: Graph
    seed: int
    compute: str

    def forward(
        self, given: Mapping[str, Tensor], *, training: bool, step: int = 0, order: np.ndarray | None = None
    ) -> Tensors:
        """Every value of the network; `given` are inputs, fields, weights and statistics. Loss and metrics only where
        all fields are given.

        In training `NAME@next` are the running statistics after the step. `order`: the samples' places in the batch.
        """
        values = dict(given)
        for node in self.graph.nodes:
            if node.stage != "metric" and all(name in values for name in node.inputs):
                self._run(node, values, training, step, order)
        return values

    def _run(self, node: Node, values: Tensors, training: bool, step: int, order: np.ndarray | None) -> None:
        known = {role: name for role, name in roles(node).items() if name in node.inputs}
        tensors = {role: values[name] for role, name in known.items()}
        attrs: dict[str, Any] = {**dict(node.attrs), "training": training}
        if node.op == "dropout":
            mask = self._mask(node, tensors["x"], step) if training else torch.ones_like(tensors["x"])
            tensors["mask"] = mask if order is None else mask[order]
            attrs["p"] = attrs["p"] if training else 0.0
        results = reference(node.op)(tensors, attrs)
        results = results if isinstance(results, tuple) else (results,)
        values.update(zip(node.outputs, results, strict=False))
        if node.op == "bn" and training:
            mean, variance = running(tensors, attrs)
            values[f"{known['mean']}@next"], values[f"{known['variance']}@next"] = mean, variance

    def _mask(self, node: Node, x: Tensor, step: int) -> Tensor:
        """The mask of kept elements that emitted programs draw: PyTorch's own generator is another one."""
        ones = np.ones(tuple(x.shape), np.float64)
        y, mask = np.empty_like(ones), np.empty(ones.shape, np.uint8)
        dropout_forward(ones, y, mask, p=node.attr("p"), key=stream_key(self.seed, node.address), step=step, position=0)
        return torch.tensor(mask)


def running(tensors: Mapping[str, Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Running mean and variance after one step: moved towards the mean over groups of what PyTorch finds in each."""
    x, momentum = tensors["x"].detach(), attrs["momentum"]
    moved = []
    for group in x.split(attrs["group"]):
        mean, variance = tensors["mean"].clone(), tensors["variance"].clone()
        torch.nn.functional.batch_norm(group, mean, variance, training=True, momentum=momentum)
        moved.append((mean, variance))
    return tuple(torch.stack(each).mean(dim=0) for each in zip(*moved, strict=True))  # type: ignore[return-value]


@dataclass(slots=True)
class TorchTraining:
    """Training steps in PyTorch from given states, as emitted programs record them.

    `names` maps attribute -> address of each weight and statistic; states are by attribute, as `w_velocity`.
    """

    network: TorchNetwork
    optimizer: str
    settings: dict[str, Any]
    clip: dict[str, Any] | None
    names: dict[str, str] = field(default_factory=dict)
    regularise: tuple[tuple[str, float], ...] = ()

    def step(
        self,
        state: Mapping[str, np.ndarray],
        batch: Mapping[str, np.ndarray],
        step: int,
        lr: float,
        order: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """The record of one step from `state` (`w.…`, `s.…`): loss, gradients, and what comes after it."""
        dtype = DTYPES[self.network.compute]
        graph = self.network.graph
        trained = {value.name for value in graph.of_kind("weight")}
        weights = {}
        for name, address in self.names.items():
            tensor = torch.tensor(state[f"w.{name}"], dtype=dtype)
            weights[address] = tensor.requires_grad_(address in trained)
        inputs = {name: torch.tensor(array) for name, array in batch.items()}
        values = self.network.forward({**inputs, **weights}, training=True, step=step, order=order)
        loss = values[graph.loss]
        loss.backward()
        record = {"loss": np.array(float(loss.detach()))}
        parameters = {n: weights[a] for n, a in self.names.items() if a in trained and weights[a].grad is not None}
        record.update({f"g.{name}": p.grad.detach().numpy().copy() for name, p in parameters.items()})
        after = self._updated(parameters, state, step, lr)
        for name, address in self.names.items():
            moved = values.get(f"{address}@next", weights[address])
            after[f"w.{name}"] = moved.detach().numpy()
        record.update({f"after.{name}": np.array(array) for name, array in after.items()})
        return record

    def _updated(
        self, parameters: Mapping[str, Tensor], state: Mapping[str, np.ndarray], step: int, lr: float
    ) -> dict[str, np.ndarray]:
        """Update the weights in place; the optimizer's states after it."""
        tensors = list(parameters.values())
        for kind, factor in self.regularise:
            for p in tensors:
                p.grad += factor * (p.detach().sign() if kind == "l1" else p.detach())
        if self.clip is not None and self.clip["kind"] == "norm":
            clip_norm(tensors, self.clip["bound"])
        elif self.clip is not None:
            torch.nn.utils.clip_grad_value_(tensors, self.clip["bound"])
        rule, names = optimizer(self.optimizer, self.settings, tensors, lr)
        for name, p in parameters.items():
            if names:
                kept = {
                    theirs: torch.tensor(state[f"s.{name}_{ours}"], dtype=p.dtype) for ours, theirs in names.items()
                }
                rule.state[p] = {**kept, "step": torch.tensor(float(step))}
        rule.step()
        return {
            f"s.{n}_{ours}": rule.state[p][theirs].numpy()
            for n, p in parameters.items()
            for ours, theirs in names.items()
        }


def clip_norm(tensors: list[Tensor], bound: float) -> None:
    """`torch.nn.utils.clip_grad_norm_` with norms summed in float64: in float32, PyTorch's own norm of three million
    elements is off by 4e-5 on CPUs."""
    norms = [torch.linalg.vector_norm(p.grad, dtype=torch.float64) for p in tensors]
    factor = float(torch.clamp(bound / (torch.stack(norms).norm() + 1e-6), max=1.0))
    for p in tensors:
        p.grad *= factor


def optimizer(kind: str, s: Mapping[str, Any], tensors: list[Tensor], lr: float) -> tuple[Any, dict[str, str]]:
    """PyTorch's optimizer, and the names of its states by ours."""
    decay = s["weight_decay"]
    match kind:
        case "sgd":
            momentum = {"velocity": "momentum_buffer"} if s["momentum"] else {}
            return torch.optim.SGD(tensors, lr, s["momentum"], weight_decay=decay, nesterov=s["nesterov"]), momentum
        case "adam" | "adamw":
            rule = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
            names = {"mean": "exp_avg", "square_mean": "exp_avg_sq"}
            return rule(tensors, lr, (s["beta1"], s["beta2"]), s["eps"], decay), names
    raise ValueError(f"there is no reference for the optimizer {kind}")
