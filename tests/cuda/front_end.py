"""Stands for cuDNN's Python front end: graphs as its documentation says, computed by NumPy in the memory of pointers.

It is as strict as what it stands for: tensors have dims and strides, results are told theirs, and calls come in their
order. Of its plans one computes on tensor cores (and rounds its operands as they do), one gives other bits each time,
one cannot be built, one fails when it runs, and one wants much memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np

NUMPY = {"FLOAT": np.float32, "DOUBLE": np.float64, "HALF": np.float16, "BFLOAT16": np.uint16}

PLANS = {
    "eng5_k2=1": {"note": "TENSOR_CORE", "ms": 0.1},
    "eng7_k2=1": {"note": "NONDETERMINISTIC", "ms": 0.2},
    "eng8_k2=0": {"build": False},
    "eng9_k2=0": {"run": False},
    "eng1_k2=3": {"workspace": 2**40, "ms": 0.3},
    "eng1_k2=2": {"ms": 0.5},
    "eng0_k2=0": {"ms": 0.4},
}
"""Name -> what is to be known of a plan, in the order of the heuristics."""

STAGES = ("made", "validated", "built", "planned", "supported")


class NotSupportedError(RuntimeError):
    """No plan can do it."""


def _enum(name: str, *members: str) -> Any:
    return Enum(name, {member: member for member in members})


class FrontEnd:
    """The module `cudnn`. `clock` counts milliseconds of the device, `built` plans, `ran` names of plans that ran."""

    data_type = _enum("data_type", "NOT_SET", *NUMPY)
    heur_mode = _enum("heur_mode", "A", "B", "FALLBACK")
    numerical_note = _enum("numerical_note", "TENSOR_CORE", "NONDETERMINISTIC", "DOWN_CONVERT_INPUTS")
    cudnnGraphNotSupportedError = NotSupportedError  # noqa: N815

    def __init__(self, plans: dict[str, dict[str, Any]] | None = None) -> None:
        self.plans = PLANS if plans is None else plans
        self.clock, self.built, self.ran, self.streams = 0.0, 0, list[str](), list[int]()
        self.graphs = list[Graph]()

    def backend_version(self) -> int:
        """Of the library."""
        return 92800

    def create_handle(self) -> int:
        """A handle is a number."""
        return 17

    def set_stream(self, handle: int, stream: int) -> None:
        """What follows is work of this stream."""
        assert handle == 17
        self.streams.append(stream)

    def pygraph(self, **told: Any) -> Graph:
        """A graph without anything."""
        assert told.pop("handle", 17) == 17
        self.graphs.append(Graph(self, **told))
        return self.graphs[-1]

    def cupy(self) -> Any:
        """What the kernels use of CuPy: streams, and events of the clock."""
        stream = SimpleNamespace(ptr=7)

        class Event:
            at = 0.0

            def record(event) -> None:  # noqa: N805
                event.at = self.clock

            def synchronize(event) -> None:  # noqa: N805
                pass

        elapsed = lambda begin, end: end.at - begin.at  # noqa: E731
        cuda = SimpleNamespace(get_current_stream=lambda: stream, Event=Event, get_elapsed_time=elapsed)
        return SimpleNamespace(cuda=cuda)


class Tensor:
    """Of a graph; a result has its extents from who asks for it, in convolutions backward at least."""

    def __init__(
        self, dim: Sequence[int] = (), stride: Sequence[int] = (), data_type: Any = None, uid: int = -1
    ) -> None:
        self.dim, self.stride, self.data_type, self.uid = list(dim), list(stride), data_type, uid
        self.output, self.made = False, ("", {})

    def set_output(self, output: bool) -> Tensor:
        self.output = output
        return self

    def set_uid(self, uid: int) -> Tensor:
        self.uid = uid
        return self

    def set_dim(self, dim: list[int]) -> Tensor:
        self.dim = dim
        return self

    def set_stride(self, stride: list[int]) -> Tensor:
        self.stride = stride
        return self

    def set_data_type(self, data_type: Any) -> Tensor:
        self.data_type = data_type
        return self


class Graph:
    """Operations, and from `create_execution_plans` on plans."""

    def __init__(
        self, module: FrontEnd, io_data_type: Any, intermediate_data_type: Any, compute_data_type: Any, **_: Any
    ) -> None:
        assert compute_data_type.name in ("FLOAT", "DOUBLE")
        self.module, self.stage = module, STAGES[0]
        self.tensors, self.notes, self.limit, self.ready = list[Tensor](), set[str](), 2**62, set[int]()

    def _goes(self, before: str, to: str) -> None:
        assert self.stage == before, f"{to} behind {self.stage}"
        self.stage = to

    def _made(self, op: str, **told: Any) -> Tensor:
        made = Tensor()
        made.made = (op, told)
        self.tensors.append(made)
        return made

    def tensor(self, dim: list[int], stride: list[int], data_type: Any, uid: int) -> Tensor:
        """Of memory."""
        assert len(dim) == len(stride) >= 4
        assert all(type(each) is int for each in (*dim, *stride))
        self.tensors.append(Tensor(dim, stride, data_type, uid))
        return self.tensors[-1]

    def conv_fprop(self, image: Tensor, weight: Tensor, **told: Any) -> Tensor:
        return self._made("forward", image=image, weight=weight, **told)

    def conv_dgrad(self, loss: Tensor, filter: Tensor, **told: Any) -> Tensor:
        return self._made("dx", loss=loss, weight=filter, **told)

    def conv_wgrad(self, image: Tensor, loss: Tensor, **told: Any) -> Tensor:
        return self._made("dw", loss=loss, image=image, **told)

    def bias(self, input: Tensor, bias: Tensor) -> Tensor:
        return self._made("bias", of=input, bias=bias)

    def relu(self, input: Tensor) -> Tensor:
        return self._made("relu", of=input)

    def validate(self) -> None:
        """Every tensor that a result is made of is known, and there is a result."""
        self._goes("made", "validated")
        (result,) = (each for each in self.tensors if each.output)
        assert result.dim
        assert result.stride
        assert result.data_type is not None
        numbers = [each.uid for each in self.tensors if each.output or not each.made[0]]
        assert len(set(numbers)) == len(numbers)
        assert min(numbers) > 0
        if result.made[0] == "relu" and result.made[1]["of"].made[0] != "bias":
            raise NotSupportedError("No valid engine configs for ConvolutionFwd_Relu")

    def build_operation_graph(self) -> None:
        self._goes("validated", "built")

    def create_execution_plans(self, modes: list[Any]) -> None:
        """In the order of the heuristics."""
        assert modes
        self._goes("built", "planned")

    def deselect_numeric_notes(self, notes: list[Any]) -> None:
        assert self.stage == "planned"
        self.notes.update(note.name for note in notes)

    def deselect_workspace_greater_than(self, limit: int) -> None:
        assert self.stage == "planned"
        self.limit = limit

    def check_support(self) -> None:
        """Whether there is any plan that is left."""
        self._goes("planned", "supported")
        if not any(map(self._left, self.module.plans.values())):
            raise NotSupportedError("No engine configs are left")

    def _left(self, plan: dict[str, Any]) -> bool:
        return plan.get("note") not in self.notes and plan.get("workspace", 0) <= self.limit

    def get_execution_plan_count(self) -> int:
        return len(self.module.plans)

    def get_plan_name_at_index(self, index: int) -> str:
        return list(self.module.plans)[index]

    def build_plan_at_index(self, index: int) -> None:
        assert self.stage == "supported"
        plan = list(self.module.plans.values())[index]
        if not self._left(plan) or not plan.get("build", True):
            raise RuntimeError("Deselecting execution plan")
        self.module.built += 1
        self.ready.add(index)

    def execute_plan_at_index(self, pointers: dict[int, int], workspace: int, index: int, handle: int) -> None:
        """Computes, in the memory that the pointers say."""
        assert handle == 17
        assert self.module.streams
        assert workspace
        assert index in self.ready
        name, plan = list(self.module.plans.items())[index]
        if not plan.get("run", True):
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")
        self.module.clock += plan.get("ms", 1.0)
        self.module.ran.append(name)
        (result,) = (each for each in self.tensors if each.output)
        assert set(pointers) == {each.uid for each in self.tensors if each.uid > 0}
        narrow = plan.get("note") == "TENSOR_CORE" and result.data_type.name == "FLOAT"
        put(memory(result, pointers), self._value(result, pointers, narrow))

    def _value(self, tensor: Tensor, pointers: dict[int, int], narrow: bool) -> Any:
        op, told = tensor.made
        if not op:
            return rounded(values(memory(tensor, pointers)), narrow)
        found = {key: self._value(each, pointers, narrow) for key, each in told.items() if isinstance(each, Tensor)}
        if op == "bias":
            return found["of"] + found["bias"]
        if op == "relu":
            return np.maximum(found["of"], 0)
        return convolved(op, found, tensor.dim, told)


def memory(tensor: Tensor, pointers: dict[int, int]) -> Any:
    """The elements of a tensor, where they are."""
    kind = np.dtype(NUMPY[tensor.data_type.name])
    reach = sum((extent - 1) * step for extent, step in zip(tensor.dim, tensor.stride, strict=True)) + 1
    flat = np.frombuffer((ctypes.c_char * (reach * kind.itemsize)).from_address(pointers[tensor.uid]), kind)
    return np.lib.stride_tricks.as_strided(flat, tensor.dim, [step * kind.itemsize for step in tensor.stride])


def values(array: Any) -> Any:
    """In double precision; 16 bits of an integer are the upper ones of an f32."""
    return (
        (array.astype(np.uint32) << 16).view(np.float32).astype(float)
        if array.dtype == np.uint16
        else array.astype(float)
    )


def put(array: Any, found: Any) -> None:
    """As the elements of an array."""
    array[...] = (found.astype(np.float32).view(np.uint32) >> 16) if array.dtype == np.uint16 else found


def rounded(array: Any, narrow: bool) -> Any:
    """As tensor cores read f32: its upper 10 bits."""
    return (array.astype(np.float32).view(np.uint32) & 0xFFFFE000).view(np.float32).astype(float) if narrow else array


def convolved(op: str, found: dict[str, Any], dim: list[int], told: dict[str, Any]) -> Any:
    """One pass of a convolution, tap by tap."""
    result = np.zeros(dim) if dim else None
    x = found.get("image", result)
    weight = found.get("weight", result)
    if op == "forward":
        y_extents = [
            (extent + before + behind - (taps - 1) * apart - 1) // step + 1
            for extent, before, behind, taps, apart, step in zip(
                x.shape[2:], told["pre_padding"], told["post_padding"], weight.shape[2:], told["dilation"],
                told["stride"], strict=True,
            )
        ]  # fmt: skip
        y = np.zeros((x.shape[0], weight.shape[0], *y_extents))
        assert not dim or list(y.shape) == dim
    else:
        y = found["loss"]
    pads = list(zip(told["pre_padding"], told["post_padding"], strict=True))
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    groups = x.shape[1] // weight.shape[1]
    for tap in np.ndindex(*weight.shape[2:]):
        at = tuple(
            slice(i * apart, i * apart + (extent - 1) * step + 1, step)
            for i, apart, extent, step in zip(tap, told["dilation"], y.shape[2:], told["stride"], strict=True)
        )
        for g in range(groups):
            c = slice(g * weight.shape[1], (g + 1) * weight.shape[1])
            k = slice(g * (weight.shape[0] // groups), (g + 1) * (weight.shape[0] // groups))
            read, w, out = padded[(slice(None), c, *at)], weight[(k, slice(None), *tap)], y[:, k]
            if op == "forward":
                out += np.einsum("nc...,kc->nk...", read, w)
            elif op == "dx":
                read += np.einsum("nk...,kc->nc...", out, w)
            else:
                flat = (each.reshape(*each.shape[:2], -1) for each in (out, read))
                weight[(k, slice(None), *tap)] += np.einsum("nkp,ncp->kc", *flat)
    if op == "dx":
        inner = tuple(slice(before, before + extent) for (before, _), extent in zip(pads, x.shape[2:], strict=True))
        return padded[(slice(None), slice(None), *inner)]
    return y if op == "forward" else weight
