"""Shape rules called as the expander calls them: arguments complete, defaults filled in from the schema."""

from collections.abc import Callable

import pytest

from dlc.ir.graph import Attr
from dlc.ir.tensor import TensorType
from dlc.ops import operator
from dlc.ops.operator import Inferred, Operator

Infer = Callable[..., Inferred]


def complete(op: Operator, given: dict[str, Attr]) -> dict[str, Attr]:
    arguments = {p.name: p.default for p in op.parameters if p.default is not None} | given
    return arguments | {p.name: arguments[p.like] for p in op.parameters if p.like and p.name not in arguments}


@pytest.fixture
def infer() -> Infer:
    def call(name: str, *operands: TensorType, **given: Attr) -> Inferred:
        op = operator(name)
        assert op is not None, name
        return op.infer(operands, complete(op, given))

    return call
