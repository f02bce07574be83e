"""All that is imported: for each op of ONNX how, in which versions, with which attributes and types."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.frontends.onnx.cover import Cover
from dlc.frontends.onnx.nodes import composed, elementwise, linear, norms, recurrent, shapes, windows

TABLE: Mapping[str, Cover] = {
    **windows.TABLE,
    **norms.TABLE,
    **elementwise.TABLE,
    **shapes.TABLE,
    **linear.TABLE,
    **recurrent.TABLE,
    **composed.TABLE,
}
