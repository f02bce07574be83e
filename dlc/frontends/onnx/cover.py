"""What it means that an op of ONNX is covered, and what of a node is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Model, OnnxNode
    from dlc.frontends.onnx.translation import Translation

FLOATING = ("f32", "f64")
INTEGERS = ("i64", "i32")


@dataclass(frozen=True, slots=True)
class Cover:
    """How an op of ONNX is imported, and how far.

    `translate` makes statements of a node. `versions` are those whose meaning it knows; `attributes` those that it
    reads: any other must have ONNX's own default. The inputs at `constants` must be known when importing, those at
    `weights` may be. `results` are the outputs that it gives a value, the first ones; `dtypes` what computed inputs may
    hold. With `by_sample` its first axis is the batch by its own meaning.
    """

    translate: Callable[[OnnxNode, Translation], None]
    versions: tuple[int, ...]
    attributes: tuple[str, ...] = ()
    constants: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    results: int = 1
    dtypes: tuple[str, ...] = FLOATING
    by_sample: bool = False


def uncovered(node: OnnxNode, model: Model, table: Mapping[str, Cover]) -> str | None:
    """Why a node is not covered, as far as that shows before anything is translated; None where it is."""
    cover = table.get(node.op) if node.version else None
    if cover is None:
        return "dlc has no operator for it"
    if node.version not in cover.versions:
        known = ", ".join(map(str, cover.versions))
        return f"it has the meaning of opset {node.version}, the importer knows that of {known}"
    for attribute, value in node.attributes.items():
        if attribute not in cover.attributes and not _is_default(node, attribute, value):
            return f"attribute `{attribute}` is {value}"
    return _faulty_output(node, model, cover) or _faulty_input(node, model, cover)


def _faulty_output(node: OnnxNode, model: Model, cover: Cover) -> str | None:
    for index, output in enumerate(node.outputs):
        if index >= cover.results and (output in model.outputs or model.readers(output)):
            return f"its output {index}, `{output}`, is used"
        found = model.types.get(output)
        if found is not None and 0 in found.shape:
            return f"its output `{output}` has no element"
    return None


def _faulty_input(node: OnnxNode, model: Model, cover: Cover) -> str | None:
    for index, input_ in enumerate(node.inputs):
        if not input_ or input_ in model.constants:
            continue
        if index in cover.constants:
            return f"its input {index}, `{input_}`, is computed, not constant"
        found = model.types.get(input_)
        if found is None:
            return f"the shape of its input `{input_}` cannot be told"
        if found.dtype not in cover.dtypes:
            return f"its input `{input_}` holds {found.dtype}, not {' or '.join(cover.dtypes)}"
    return None


def _is_default(node: OnnxNode, attribute: str, value: object) -> bool:
    """Whether an attribute says what its absence would."""
    from onnx import defs, helper

    declared = defs.get_schema(node.op, node.version).attributes.get(attribute)
    if declared is None or not declared.default_value.type:
        return False
    default = helper.get_attribute_value(declared.default_value)
    return bool(value == (default.decode() if isinstance(default, bytes) else default))
