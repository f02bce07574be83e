"""Attributes as the numbers that they were meant to be."""

from __future__ import annotations

import struct

from dlc.frontends.onnx.model import OnnxNode


def real(node: OnnxNode, attribute: str, default: float) -> float:
    """A number attribute: the shortest one that is the same in f32, in which ONNX keeps it. So 1e-5 stays 1e-5."""
    return shortest(float(node.get(attribute, default)))


def shortest(value: float) -> float:
    """The number of fewest digits that rounds to the same f32."""
    exact = _in_single(value)
    return next((short for digits in range(1, 10) if _in_single(short := float(f"{exact:.{digits}g}")) == exact), exact)


def _in_single(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
