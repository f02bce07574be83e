"""Seconds of what a step does to weights and their gradients behind the backward pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlc.cluster.topology import Device
from dlc.cost.compute import call_work, looked_at, overhead
from dlc.cost.many import seconds_many
from dlc.cost.profile import Profile
from dlc.ir.tensor import TensorType, tensor
from dlc.ops.fusion import ELEMENT_RULES, UPDATE
from dlc.ops.operator import Shapes
from passes.planning.network import OpKind
from passes.planning.update_rules import UpdateRule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class UpdatePrices:
    """The prices of some rules on a device. Where kernels are `fused`, updates by one rule are one call."""

    rules: tuple[UpdateRule, ...]
    device: Device
    profile: Profile | None
    fused: bool

    @property
    def states(self) -> int:
        """How many values of its own kind and shape the optimizer keeps of each weight."""
        return max((0, *(rule.operands - 2 for rule in self.rules if rule.stage == "update")))

    def seconds(self, weights: Iterable[TensorType], count: int) -> Array:
        """[row]: to update weights, to clip and regularise their gradients, of types of `count` rows."""
        import numpy as np

        total, several = np.zeros(count), tuple(weights)
        for rule in self.rules:
            for weight in several:
                shapes = Shapes((weight,) * rule.operands, (), rule.attrs)
                total += np.broadcast_to(
                    seconds_many(rule.operator, rule.stage, shapes, "", "", self.device, self.profile), (count,)
                )
                if self._together(rule):
                    total += looked_at(self.device, self.profile) - self._of_nothing(rule)
                else:
                    total += -self._call() if rule.joint else call_work(rule.operands * weight.bytes, self.profile)
        return np.maximum(total, 0.0)

    def calls(self, kind: OpKind) -> float:
        """Seconds of calls of a step that are for no weight: to move running averages, of joint rules, and of updates
        that are one call."""
        averages = any(each.node.stage == "statistics" for each in kind.passes)
        if kind.example.stage != "loss":
            return averages * self._call()
        first = call_work(0.0, self.profile) - looked_at(self.device, self.profile)
        together = sum(self._of_nothing(rule) + first for rule in self.rules if self._together(rule))
        return (averages + sum(rule.joint for rule in self.rules)) * self._call() + together

    def _together(self, rule: UpdateRule) -> bool:
        """Whether the updates of all weights by a rule are one call."""
        return self.fused and rule.stage == UPDATE and not rule.joint and rule.operator.name in ELEMENT_RULES

    def _of_nothing(self, rule: UpdateRule) -> float:
        """Seconds of an update of a single element."""
        shapes = Shapes((tensor("f32", all=1),) * rule.operands, (), rule.attrs)
        return float(seconds_many(rule.operator, rule.stage, shapes, "", "", self.device, self.profile)[0])

    def _call(self) -> float:
        """Seconds of one call besides its work."""
        return overhead(self.device, self.profile)
