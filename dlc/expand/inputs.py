"""Inputs of networks: `input image: f32[batch, channel = 3, height = 32, width = 32]`."""

from __future__ import annotations

from dlc.diagnostics import Span
from dlc.expand.evaluate import UNKNOWN, Evaluator, described
from dlc.ir.tensor import BATCH, Axis, TensorType
from dlc.messages import e02_names as messages
from dlc.syntax import ast

DTYPES = ("f64", "f32", "f16", "bf16", "i64", "i32", "u8")


def input_type(item: ast.Input, evaluator: Evaluator) -> TensorType | None:
    """The type that an input declares; None after a mistake (E0220), which is reported."""
    reader = _AxisReader(item.name, evaluator)
    written = item.type
    if written.dtype not in DTYPES:
        start = written.span
        span = Span(start.file, start.line, start.column, start.line, start.column + len(written.dtype))
        reader.refuse(span, f"`{written.dtype}` is no type of element", f"types: {', '.join(DTYPES)}")
    axes: list[Axis] = []
    for position, declared in enumerate(written.axes):
        axis = reader.read(declared, position)
        if axis is not None and axis.name in [other.name for other in axes]:
            reader.refuse(declared.span, f"two axes are named `{axis.name}`")
        elif axis is not None:
            axes.append(axis)
    return None if reader.refused else TensorType(written.dtype, tuple(axes))


class _AxisReader:
    """Reads the axes of one input."""

    def __init__(self, name: str, evaluator: Evaluator) -> None:
        self.name = name
        self.evaluator = evaluator
        self.refused = False

    def refuse(self, span: Span, fault: str, *helps: str) -> None:
        self.refused = True
        self.evaluator.report(messages.WRONG_INPUT.at(span, name=self.name, fault=fault, helps=helps))

    def read(self, declared: ast.AxisDeclaration, position: int) -> Axis | None:
        """One axis: its name, and its extent from itself or from the parameter of its name."""
        name = declared.name or (BATCH if position == 0 else None)
        if name is None:
            self.refuse(declared.span, "an axis behind the batch has no name", "name it: `channel = 3`")
            return None
        if (name == BATCH) != (position == 0):
            known = declared.extent is None and self.evaluator.scope.find(name) is not None
            begin = f"batch = {name}" if known else "batch"
            self.refuse(declared.span, "the batch is its first axis, and no other", f"begin with `f32[{begin}, …]`")
            return None
        if declared.extent is None and self.evaluator.scope.find(name) is None:
            self.refused = True
            helps = (f"write `{name} = 32`, or add `param {name} = 32` to the file",)
            where = self.evaluator.scope.where
            self.evaluator.report(messages.UNDEFINED.at(declared.span, name=name, where=where, helps=helps))
            return None
        extent = self.evaluator.evaluate(declared.extent or ast.Name(name, declared.span))
        if extent is UNKNOWN:
            self.refused = True
            return None
        if isinstance(extent, bool) or not isinstance(extent, int) or extent < 1:
            self.refuse(declared.span, f"the extent of `{name}` is an integer from 1 up, not {described(extent)}")
            return None
        return Axis(name, extent)
