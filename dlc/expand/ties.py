"""Weights that an op borrows: `tied = wte.embedding.weight` is found by its address, and must be of the op's shape."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.diagnostics import similar
from dlc.expand.addresses import below
from dlc.expand.evaluate import UNKNOWN, Evaluator, Unknown
from dlc.expand.nodes import Nodes
from dlc.expand.values import borrowed, in_words
from dlc.messages import e02_names as messages
from dlc.messages import e03_shapes as shape_messages
from dlc.ops.operator import Inferred
from dlc.syntax import ast


@dataclass(frozen=True, slots=True)
class Ties:
    """Finds weights by addresses below `prefix`, else below the network, whose indices `evaluator` knows."""

    evaluator: Evaluator
    nodes: Nodes
    prefix: str

    def weight(self, op: str, argument: ast.Argument) -> tuple[str | Unknown, bool]:
        """The weight that an argument names, and whether it is transposed; UNKNOWN after a mistake."""
        address, transposed = borrowed(argument.value)
        path = self._path(address)
        if path is None:
            found, wanted = in_words(address, self.evaluator), "the address of a weight, such as `wte.embedding.weight`"
            message = messages.WRONG_KIND.at(address.span, argument="tied", callee=op, needed=wanted, found=found)
            return self.evaluator.fail(message), transposed
        for name in (below(self.prefix, path), path):
            if self.nodes.weight(name) is not None:
                return name, transposed
        near = similar(path, (name for name in self.nodes.values if self.nodes.weight(name)))
        helps = (f"there is a weight with a similar address: `{near}`",) if near else ()
        return self.evaluator.fail(messages.NO_WEIGHT.at(address.span, address=path, helps=helps)), transposed

    def fit(self, op: str, inferred: Inferred, argument: ast.Expr) -> bool:
        """Whether the weights that an argument lends have the types that the op needs (E0318)."""
        for (_, name), needed in zip(inferred.tied, inferred.tied_types, strict=True):
            found = self.nodes.values[name].type
            if (found.dtype, found.shape) != (needed.dtype, needed.shape):
                address, transposed = borrowed(argument)
                turned = (found.dtype, found.shape) == (needed.dtype, needed.shape[::-1])
                path = self._path(address)
                way = f"`tied = {path}`" if transposed else f"`tied = transpose({path})`"
                helps = (f"{way} uses it the other way round",) if turned else ()
                message = shape_messages.TIED_SHAPE
                self.evaluator.report(
                    message.at(address.span, helps=helps, address=name, found=found, op=op, needed=needed)
                )
                return False
        return True

    def _path(self, address: ast.Expr) -> str | None:
        """An address as text, its indices evaluated; None where it is none."""
        match address:
            case ast.Name(text):
                return text
            case ast.Attribute(value, name):
                path = self._path(value)
                return None if path is None else f"{path}.{name}"
            case ast.Index(value, index):
                path, number = self._path(value), self.evaluator.evaluate(index)
                if path is None or number is UNKNOWN:
                    return None
                return f"{path}[{number if isinstance(number, int) else '…'}]"
        return None
