"""What stands for CuPy with `--emulate`: arrays that lie in NumPy's but are as strict as those of a device.

What CuPy refuses, this refuses: to compute with arrays of the processor and of the device together, and to be taken
for an array of the processor. So what runs here has no copy too few, though there is no device.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from . import emulated_nccl, emulated_streams
from .emulated_streams import Event, Stream, copy_async, get_current_stream, launch, require_no_capture, touch

MPI = "DLC_EMULATE_MPI"
"""With `device` in this variable the MPI of an emulated program takes pointers to the device's memory."""

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

    class runtime:  # noqa: N801 - CuPy's name
        """What programs take of `cupy.cuda.runtime`."""

        class CUDARuntimeError(RuntimeError):
            """Nothing here raises it."""

    @staticmethod
    def alloc_pinned_memory(size: int) -> Any:
        """Memory of the processor that the device reaches."""
        return bytearray(size)


class ndarray(NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """An array "on the device"; `values` are what it holds. `noted` is called where the processor has a part in it."""

    __slots__ = ("__weakref__", "values")

    noted: ClassVar[Callable[[], None]] = lambda: None

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "size", "ndim", "dtype", "itemsize", "nbytes", "strides", "flags"):
            return getattr(self.values, name)
        if name in ("item", "tolist", "tobytes"):
            _read_by_host(self.values)
            return getattr(self.values, name)
        raise AttributeError(name)

    @property
    def data(self) -> Memory:
        """As of CuPy's arrays."""
        return Memory(self.values)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Where it lies, for libraries that take pointers to a device's memory: an MPI, if it is said to."""
        if not mpi_takes_pointers():
            raise AttributeError("nobody here takes pointers to a device's memory")
        about = self.values.__array_interface__
        return {name: about[name] for name in ("shape", "typestr", "data", "strides", "version")}

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
        _taken()
        touch(read=(self.values,))
        return ndarray(self.values.copy())

    def get(self) -> Any:
        """A copy for the processor."""
        _read_by_host(self.values)
        return self.values.copy()

    def set(self, values: Any) -> None:
        """Take the elements of an array of the processor, of the same shape and type."""
        if not self.flags.c_contiguous or values.shape != self.shape or values.dtype != self.dtype:
            raise ValueError("only whole arrays of the same shape and type are set")
        require_no_capture("copies")
        touch(written=(self.values,))
        self.values[...] = values

    def fill(self, value: float) -> None:
        """A number for all elements."""
        _onto(np.ndarray.fill, (self.values, value))

    def __getitem__(self, place: Any) -> ndarray:
        return ndarray(self.values[place])

    def __setitem__(self, place: Any, value: Any) -> None:
        given, values = _unwrapped(value), self.values

        def run() -> None:
            touch((given,), (values[place],))
            values[place] = given

        launch(run)

    def __len__(self) -> int:
        return len(self.values)

    def __float__(self) -> float:
        _read_by_host(self.values)
        return float(self.values)

    def __int__(self) -> int:
        _read_by_host(self.values)
        return int(self.values)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("arrays of the device are no arrays of the processor: use .get()")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        out = keywords.pop("out", None)
        given = tuple(map(_unwrapped, inputs))
        if out is None:
            _taken()
            touch(given)
            return ndarray(getattr(ufunc, method)(*given, **keywords))
        written = tuple(map(_unwrapped, out))

        def run() -> None:
            touch(given, written)
            getattr(ufunc, method)(*given, out=written, **keywords)

        launch(run)
        return out[0]

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        if function not in FUNCTIONS:
            raise TypeError(f"numpy.{function.__name__} takes no arrays of the device here")
        given = tuple(map(_unwrapped, arguments))
        if function is np.copyto:
            _onto(function, given, **keywords)
            return None
        _taken()
        return ndarray(function(*given, **keywords))


def mpi_takes_pointers() -> bool:
    """Whether the MPI is said to take arrays of the device."""
    return os.environ.get(MPI, "") == "device"


def in_flight(sent: Any, received: Any) -> Callable[[], None]:
    """A message begins that an MPI reads from and writes to the device's memory; what ends it. RaceError."""
    return emulated_streams.in_flight(*(getattr(each, "values", None) for each in (sent, received)))


def zeros(shape: Any, dtype: Any) -> ndarray:
    """An array of zeros on the device."""
    require_no_capture("takes memory")
    return ndarray(np.zeros(shape, dtype))


def empty(shape: Any, dtype: Any) -> ndarray:
    """An array that holds anything."""
    require_no_capture("takes memory")
    return ndarray(np.empty(shape, dtype))


def asarray(values: Any) -> ndarray:
    """A copy on the device."""
    require_no_capture("copies")
    return ndarray(np.array(values))


def _onto(run: Any, arguments: tuple[Any, ...], **keywords: Any) -> None:
    """A kernel of CuPy's that writes its first argument and reads the second one."""

    def launched() -> None:
        touch(arguments[1:2], arguments[:1])
        run(*arguments, **keywords)

    launch(launched)


def _taken() -> None:
    """Memory for a new array is taken."""
    ndarray.noted()
    require_no_capture("takes memory")


def _read_by_host(values: Any) -> None:
    """On the current stream, which the processor waits for."""
    ndarray.noted()
    require_no_capture("reads an array")
    touch(read=(values,))
    get_current_stream().synchronize()


def _unwrapped(value: Any) -> Any:
    """The values of an array of the device, or a number; TypeError for an array of the processor."""
    if isinstance(value, ndarray):
        return value.values
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("an array of the processor is given where one of the device is needed")
    return value
