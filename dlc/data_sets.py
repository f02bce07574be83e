"""The data sets that a train block can name: their arguments, the samples and fields they provide, their classes.

Files are read by the emitted program, not here. `LOADABLE` says which ones this version has a reader for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dlc.ir.tensor import BATCH, TensorType, tensor
from dlc.ir.training import Argument
from dlc.ops.operands import FLOATING
from dlc.ops.operator import Parameter

Arguments = Mapping[str, Argument]


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set of the language.

    `sample` gives the type of one sample, without the batch, and `classes` how many classes its labels have; None
    where the files or the network decide. `fields` are what it provides besides the inputs, as `data.label`;
    with `any_field` it has others, which have the type that their use asks for.
    """

    name: str
    parameters: tuple[Parameter, ...]
    fields: tuple[str, ...]
    sample: Callable[[Arguments], TensorType | None]
    classes: Callable[[Arguments], int | None]
    any_field: bool = False

    def field_type(self, field: str, input_: TensorType) -> TensorType | None:
        """The type of a field beside a network input (batch included): `label` is one integer a sample, `next` is as
        the input, one place ahead. None for a field whose use decides, KeyError for one that it does not have.
        """
        if field in self.fields and field == "label":
            return TensorType("i32", input_.axes[:1])
        if field in self.fields:
            return input_ if input_.dtype in FLOATING else TensorType("i32", input_.axes)
        if self.any_field:
            return None
        raise KeyError(field)

    def feeds(self, input_: TensorType, arguments: Arguments) -> bool:
        """Whether a network input fits this data set's samples: names of axes and the precision are the network's."""
        sample = self.sample(arguments)
        if sample is None:
            return True
        alike = (input_.dtype in FLOATING) == (sample.dtype in FLOATING)
        return alike and input_.names[:1] == (BATCH,) and input_.shape[1:] == sample.shape


def _count(arguments: Arguments, name: str) -> int:
    value = arguments[name]
    if not isinstance(value, int):
        raise TypeError(f"{name} is an integer, not {value!r}")
    return value


def _image(channels: int, extent: int) -> TensorType:
    return tensor("f32", channel=channels, height=extent, width=extent)


def _tokens(arguments: Arguments) -> TensorType:
    return tensor("i32", seq=_count(arguments, "seq"))


def _unknown(_arguments: Arguments) -> None:
    return None


_ORDER = (
    Parameter("shuffle", "bool", default=True),
    Parameter("last", "choice", default="drop", choices=("drop", "keep")),
)
_SPLIT = (Parameter("test", "number", default=0.2, minimum=0, below=1), *_ORDER)
"""`test` is the share that is kept for testing, drawn by the seed, where files have no test set of their own."""

_FOLDER = Parameter("dir", "text", required=True)
_FILE = Parameter("file", "text", required=True)
_SEQ = Parameter("seq", "int", required=True, minimum=1)

DATA_SETS = (
    DataSet(
        "digits",  # UCI optical recognition of handwritten digits: 1,797 images of 8x8
        (Parameter("scale", "int", default=1, minimum=1), *_SPLIT),
        ("label",),
        sample=lambda arguments: _image(1, 8 * _count(arguments, "scale")),
        classes=lambda _: 10,
    ),
    DataSet(
        "mnist",
        (_FOLDER, Parameter("pad", "int", default=0, minimum=0), *_ORDER),
        ("label",),
        sample=lambda arguments: _image(1, 28 + 2 * _count(arguments, "pad")),
        classes=lambda _: 10,
    ),
    DataSet(
        "cifar10",
        (_FOLDER, *_ORDER),
        ("label",),
        sample=lambda _: _image(3, 32),
        classes=lambda _: 10,
    ),
    DataSet("npz", (_FILE, *_SPLIT), ("label", "next"), _unknown, _unknown, any_field=True),
    DataSet(
        "images",
        (
            _FOLDER,
            Parameter("size", "int", default=224, minimum=1),
            Parameter("augment", "list", default=(), choices=("flip", "crop")),
            *_SPLIT,
        ),
        ("label",),
        sample=lambda arguments: _image(3, _count(arguments, "size")),
        classes=_unknown,
    ),
    DataSet("text", (_FILE, _SEQ, *_SPLIT), ("next",), _tokens, _unknown),
    DataSet("tokens", (_FILE, _SEQ, *_SPLIT), ("next",), _tokens, _unknown),
    DataSet(
        "synthetic",
        (
            Parameter("samples", "int", default=1024, minimum=1),
            Parameter("classes", "int", default=10, minimum=1),
            *_SPLIT,
        ),
        ("label", "next"),
        sample=_unknown,
        classes=lambda arguments: _count(arguments, "classes"),
        any_field=True,
    ),
)

LOADABLE = ("digits", "mnist", "cifar10", "npz", "text", "tokens", "synthetic")
"""The data sets that this version can read; naming another one passes `check` and is refused at `compile`."""

_BY_NAME = {data_set.name: data_set for data_set in DATA_SETS}


def data_set(name: str) -> DataSet | None:
    """The data set of that name, or None."""
    return _BY_NAME.get(name)
