"""What stands for CuPy with `--emulate`: arrays that lie in NumPy's but are as strict as those of a device.

What CuPy refuses, this refuses: to compute with arrays of the processor and of the device together, and to be taken
for an array of the processor. So what runs here has no copy too few, though there is no device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from . import emulated_nccl
from .emulated_streams import Event, Stream, copy_async, get_current_stream, touch

FUNCTIONS = (np.copyto, np.empty_like, np.zeros_like)
"""NumPy's functions that take these arrays."""


class Memory:
    """Where an array begins."""

    def __init__(self, values: Any) -> None:
        self.ptr, self._values = values.ctypes.data, values

    def copy_from_host_async(self, mem: int, size: int, stream: Stream | None = None) -> None:
        """Bytes from the processor's memory, in the order of a stream."""
        copy_async(self._values, mem, size, False, stream)

    def copy_to_host_async(self, mem: int, size: int, stream: Stream | None = None) -> None:
        """Bytes to the processor's memory, in the order of a stream."""
        copy_async(self._values, mem, size, True, stream)


class cuda:  # noqa: N801 - CuPy's name
    """What programs take of `cupy.cuda`."""

    Stream, Event, get_current_stream = Stream, Event, staticmethod(get_current_stream)
    nccl = emulated_nccl

    @staticmethod
    def alloc_pinned_memory(size: int) -> Any:
        """Memory of the processor that the device reaches."""
        return bytearray(size)


class ndarray(NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """An array "on the device"; `values` are what it holds. `noted` is called with whatever is done but by kernels."""

    __slots__ = ("__weakref__", "values")

    noted: ClassVar[Callable[[], None]] = lambda: None

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "size", "ndim", "dtype", "itemsize", "nbytes", "strides", "flags"):
            return getattr(self.values, name)
        if name in ("item", "tolist", "tobytes", "fill"):
            ndarray.noted()
            if name == "fill":
                touch(written=(self.values,))
            else:
                _read_by_host(self.values)
            return getattr(self.values, name)
        raise AttributeError(name)

    @property
    def data(self) -> Memory:
        """As of CuPy's arrays."""
        return Memory(self.values)

    @property
    def T(self) -> ndarray:  # noqa: N802
        """A view with the axes turned round."""
        return ndarray(self.values.T)

    def reshape(self, *shape: Any) -> ndarray:
        """A view, or a copy, of another shape."""
        return ndarray(self.values.reshape(*shape))

    def transpose(self, *axes: Any) -> ndarray:
        """A view with the axes in another order."""
        return ndarray(self.values.transpose(*axes))

    def view(self, dtype: Any) -> ndarray:
        """The same memory as elements of another type."""
        return ndarray(self.values.view(dtype))

    def copy(self) -> ndarray:
        """A new array."""
        ndarray.noted()
        touch(read=(self.values,))
        return ndarray(self.values.copy())

    def get(self) -> Any:
        """A copy for the processor."""
        ndarray.noted()
        _read_by_host(self.values)
        return self.values.copy()

    def set(self, values: Any) -> None:
        """Take the elements of an array of the processor, of the same shape and type."""
        if not self.flags.c_contiguous or values.shape != self.shape or values.dtype != self.dtype:
            raise ValueError("only whole arrays of the same shape and type are set")
        touch(written=(self.values,))
        self.values[...] = values

    def __getitem__(self, place: Any) -> ndarray:
        return ndarray(self.values[place])

    def __setitem__(self, place: Any, value: Any) -> None:
        ndarray.noted()
        given = _unwrapped(value)
        touch((given,), (self.values[place],))
        self.values[place] = given

    def __len__(self) -> int:
        return len(self.values)

    def __float__(self) -> float:
        ndarray.noted()
        _read_by_host(self.values)
        return float(self.values)

    def __int__(self) -> int:
        ndarray.noted()
        _read_by_host(self.values)
        return int(self.values)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("arrays of the device are no arrays of the processor: use .get()")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        ndarray.noted()
        out = keywords.pop("out", None)
        if out is not None:
            keywords["out"] = tuple(map(_unwrapped, out))
        given = tuple(map(_unwrapped, inputs))
        touch(given, keywords.get("out", ()))
        found = getattr(ufunc, method)(*given, **keywords)
        return out[0] if out is not None else ndarray(found)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        ndarray.noted()
        if function not in FUNCTIONS:
            raise TypeError(f"numpy.{function.__name__} takes no arrays of the device here")
        given = tuple(map(_unwrapped, arguments))
        if function is np.copyto:
            touch(given[1:2], given[:1])
        found = function(*given, **keywords)
        return None if found is None else ndarray(found)


def zeros(shape: Any, dtype: Any) -> ndarray:
    """An array of zeros on the device."""
    return ndarray(np.zeros(shape, dtype))


def empty(shape: Any, dtype: Any) -> ndarray:
    """An array that holds anything."""
    return ndarray(np.empty(shape, dtype))


def asarray(values: Any) -> ndarray:
    """A copy on the device."""
    return ndarray(np.array(values))


def matmul(left: ndarray, right: ndarray, out: ndarray) -> None:
    """The library's product of matrices."""
    np.matmul(left.values, right.values, out=out.values)


def _read_by_host(values: Any) -> None:
    """On the current stream, which the processor waits for."""
    touch(read=(values,))
    get_current_stream().synchronize()


def _unwrapped(value: Any) -> Any:
    """The values of an array of the device, or a number; TypeError for an array of the processor."""
    if isinstance(value, ndarray):
        return value.values
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("an array of the processor is given where one of the device is needed")
    return value
