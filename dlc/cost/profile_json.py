"""Profiles as JSON documents: schema 2, strictly read.

    {"schema": 2, "device": "AMD EPYC, 2 cores", "spread": 0.1, "call": 1.1e-6,
     "own": {"step": 6e-5, "call": 2e-6, "cold": 1.5e-5, "load": 8e-6, "cast": 1e-9, "decode": 2e-5,
             "gather": 4e-9, "spread": 0.1},
     "usual": {"products": 2.4e-4, "copies": 9e-4, "calls": 6e-7, "spread": 0.05},
     "fingerprint": {"processor": "AMD EPYC", "cores": "2", …},
     "rates": [{"threads": 1, "compute": {"f32": 1.05e11}, "bandwidth": 2.1e10}, …],
     "bandwidth": [{"run": 4, "rate": 3.1e9}, {"run": 4096, "rate": 1.1e10}],
     "gemm": [{"dtype": "f32", "threads": 1, "m": [16, 256], "n": [16, 4096], "k": [32, 512], "rate": [[[…]]]}],
     "kernels": [{"op": "conv", "pass": "forward", "algorithm": "im2col", "layout": "NHWC", "kernels": "numpy",
                  "threads": 1, "attrs": {"stride": [1, 1], …}, "inputs": ["f32[batch = 32, …]", …],
                  "outputs": ["f32[…]"], "seconds": 0.0021, "cold": 0.0024, "spread": 0.03}, …],
     "messages": [{"kind": "allreduce", "algorithm": "ring", "ranks": 2, "seconds": [[1024, 1.1e-5], …]}, …]}

That of a GPU has `"kind": "gpu"`, `"launch": 4.1e-6` and
`"copies": [{"way": "to", "seconds": [[4096, 9e-6], …]}, {"way": "from", …}]` besides.

Of a kernel `algorithm`, `layout`, `kernels` (any family), `threads` (1), `attrs`, `cold` (as `seconds`) and `spread`
(0) may be left out, of a document everything but `schema` and `device`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dlc.cost.profile import Copied, GemmTable, Messages, Own, Profile, Rates, Sample, Usual
from dlc.ir.plan import ANALYTIC_SPREAD
from dlc.ir.tensor import DTYPE_BYTES, Axis, TensorType
from dlc.ops.operator import Shapes

SCHEMA = 2
KINDS, WAYS = ("cpu", "gpu"), ("to", "from")
"""Of devices, and of copies between one and its host."""

KNOWN = {
    "a profile": (
        "schema",
        "device",
        "spread",
        "call",
        "own",
        "usual",
        "fingerprint",
        "rates",
        "bandwidth",
        "gemm",
        "kernels",
        "messages",
        *("kind", "launch", "copies"),
    ),
    "a row of `copies`": ("way", "seconds"),
    "`own`": ("step", "call", "cold", "load", "cast", "decode", "gather", "spread"),
    "`usual`": ("products", "copies", "calls", "spread"),
    "a row of `rates`": ("threads", "compute", "bandwidth"),
    "a row of `bandwidth`": ("run", "rate"),
    "a gemm table": ("dtype", "threads", "m", "n", "k", "rate"),
    "a kernel": (
        *(
            "op",
            "pass",
            "algorithm",
            "layout",
            "kernels",
            "threads",
            "attrs",
            "inputs",
            "outputs",
            "seconds",
            "cold",
            "spread",
        ),
    ),
    "a row of `messages`": ("kind", "algorithm", "ranks", "seconds", "spread"),
}
"""Part of a document -> what may stand in it."""


def read_profile(document: Mapping[str, Any]) -> Profile:
    """A profile from its JSON document; KeyError or ValueError where it has another form."""
    if document["schema"] != SCHEMA:
        raise ValueError(
            f"a profile of schema {document['schema']}, this version of dlc reads schema {SCHEMA}: "
            "`dlc calibrate` makes one"
        )
    _known("a profile", document)
    call = document.get("call")
    return Profile(
        str(document["device"]),
        None if call is None else _amount("call", call),
        tuple(sorted(_bandwidth(row) for row in document.get("bandwidth", ()))),
        tuple(_gemm_table(table) for table in document.get("gemm", ())),
        tuple(_sample(row) for row in document.get("kernels", ())),
        _spread(document.get("spread", ANALYTIC_SPREAD)),
        tuple(_rates(row) for row in document.get("rates", ())),
        tuple(_messages(row) for row in document.get("messages", ())),
        tuple((str(name), str(value)) for name, value in document.get("fingerprint", {}).items()),
        _own(document["own"]) if document.get("own") is not None else None,
        _kind(document.get("kind", "cpu")),
        _amount("launch", document["launch"]) if document.get("launch") is not None else None,
        tuple(_copied(row) for row in document.get("copies", ())),
        _usual(document["usual"]) if document.get("usual") is not None else None,
    )


def _kind(value: Any) -> str:
    if value not in KINDS:
        raise ValueError(f"`kind` is {' or '.join(KINDS)}, not {value!r}")
    return str(value)


def _copied(row: Mapping[str, Any]) -> Copied:
    _known("a row of `copies`", row)
    if row["way"] not in WAYS:
        raise ValueError(f"`way` is {' or '.join(WAYS)}, not {row['way']!r}")
    return Copied(row["way"], tuple(sorted((float(size), _amount("seconds", taken)) for size, taken in row["seconds"])))


def _own(row: Mapping[str, Any]) -> Own:
    _known("`own`", row)
    found = {name: row.get(name, 0.0) for name in ("step", "call", "cold", "load", "cast", "decode", "gather")}
    # A fit may leave nothing for one of them.
    step, call, cold, load, *more = (_amount(name, value) if value != 0 else 0.0 for name, value in found.items())
    return Own(step, call, cold, load, _spread(row.get("spread", 0.0)), *more)


def _usual(row: Mapping[str, Any]) -> Usual:
    _known("`usual`", row)
    products, copies, calls = (_amount(name, row[name]) for name in ("products", "copies", "calls"))
    return Usual(products, copies, calls, _spread(row.get("spread", 0.0)))


def profile_document(profile: Profile) -> dict[str, Any]:
    """The JSON document of a profile."""
    return {
        "schema": SCHEMA,
        "device": profile.device,
        "spread": _short(profile.spread),
        "call": None if profile.call is None else _short(profile.call),
        "own": None if profile.own is None else {name: _short(value) for name, value in asdict(profile.own).items()},
        **_told("usual", profile.usual),
        "fingerprint": dict(profile.fingerprint),
        "rates": [
            {
                "threads": r.threads,
                "compute": {t: _short(rate) for t, rate in r.compute},
                "bandwidth": _short(r.bandwidth),
            }
            for r in profile.rates
        ],
        "bandwidth": [{"run": run, "rate": _short(rate)} for run, rate in profile.bandwidth],
        "gemm": [
            {"dtype": t.dtype, "threads": t.threads, "m": t.m, "n": t.n, "k": t.k, "rate": t.rate} for t in profile.gemm
        ],
        "kernels": [_sample_row(sample) for sample in profile.samples],
        "messages": [
            {
                "kind": m.kind,
                "algorithm": m.algorithm,
                "ranks": m.ranks,
                "seconds": [(size, _short(taken)) for size, taken in m.seconds],
                "spread": _short(m.spread),
            }
            for m in profile.messages
        ],
        **(_of_gpu(profile) if profile.kind == "gpu" else {}),
    }


def _told(name: str, usual: Usual | None) -> dict[str, Any]:
    """Profiles of GPUs and of old have none."""
    return {} if usual is None else {name: {part: _short(value) for part, value in asdict(usual).items()}}


def _of_gpu(profile: Profile) -> dict[str, Any]:
    """What profiles of processors do not have."""
    return {
        "kind": profile.kind,
        "launch": None if profile.launch is None else _short(profile.launch),
        "copies": [
            {"way": each.way, "seconds": [(size, _short(taken)) for size, taken in each.seconds]}
            for each in profile.copies
        ],
    }


def _sample_row(sample: Sample) -> dict[str, Any]:
    """What may be left out is, where it says nothing."""
    told = {
        "algorithm": sample.algorithm,
        "layout": sample.layout,
        "kernels": sample.kernels,
        "attrs": dict(sample.shapes.attrs),
    }
    return {
        "op": sample.op,
        "pass": sample.stage,
        **{name: value for name, value in told.items() if value},
        **({"threads": sample.threads} if sample.threads > 1 else {}),
        "inputs": [str(type_) for type_ in sample.shapes.inputs],
        "outputs": [str(type_) for type_ in sample.shapes.outputs],
        "seconds": _short(sample.seconds),
        **({"cold": _short(sample.cold)} if sample.cold else {}),
        "spread": _short(sample.spread),
    }


def _sample(row: Mapping[str, Any]) -> Sample:
    _known("a kernel", row)
    inputs, outputs = (tuple(read_type(text) for text in row[name]) for name in ("inputs", "outputs"))
    attrs = {name: _tuples(value) for name, value in row.get("attrs", {}).items()}
    return Sample(
        str(row["op"]),
        str(row["pass"]),
        str(row.get("algorithm", "")),
        str(row.get("layout", "")),
        Shapes(inputs, outputs, attrs),
        _amount("seconds", row["seconds"]),
        _spread(row.get("spread", 0.0)),
        str(row.get("kernels", "")),
        _count("threads", row.get("threads", 1)),
        _amount("cold", row["cold"]) if "cold" in row else 0.0,
    )


def read_type(text: str) -> TensorType:
    """`f32[batch = 32, channel = 3]` as a type; ValueError where it is none."""
    found = re.fullmatch(r"(\w+)\[(.*)\]", text)
    parts = [re.fullmatch(r"(\w+) = (\d+)", part) for part in found[2].split(", ")] if found and found[2] else []
    if found is None or found[1] not in DTYPE_BYTES or None in parts:
        raise ValueError(f"`{text}` is no type such as `f32[batch = 32, channel = 3]`")
    return TensorType(found[1], tuple(Axis(part[1], int(part[2])) for part in parts if part is not None))


def _rates(row: Mapping[str, Any]) -> Rates:
    _known("a row of `rates`", row)
    compute = tuple((str(dtype), _amount("compute", rate)) for dtype, rate in row["compute"].items())
    return Rates(_count("threads", row["threads"]), compute, _amount("bandwidth", row["bandwidth"]))


def _bandwidth(row: Mapping[str, Any]) -> tuple[float, float]:
    _known("a row of `bandwidth`", row)
    return _amount("run", row["run"]), _amount("rate", row["rate"])


def _gemm_table(table: Mapping[str, Any]) -> GemmTable:
    _known("a gemm table", table)
    m, n, k = (tuple(int(extent) for extent in table[name]) for name in "mnk")
    rate = tuple(tuple(tuple(_amount("rate", r) for r in row) for row in plane) for plane in table["rate"])
    if len(rate) != len(m) or any(len(plane) != len(n) or any(len(row) != len(k) for row in plane) for plane in rate):
        raise ValueError(f"the rates of a gemm table are not {len(m)} x {len(n)} x {len(k)}")
    return GemmTable(str(table["dtype"]), m, n, k, rate, _count("threads", table.get("threads", 1)))


def _messages(row: Mapping[str, Any]) -> Messages:
    _known("a row of `messages`", row)
    seconds = tuple(sorted((float(size), _amount("seconds", taken)) for size, taken in row["seconds"]))
    if not seconds:
        raise ValueError("a row of `messages` has no sizes")
    spread = _spread(row.get("spread", 0.0))
    return Messages(str(row["kind"]), str(row.get("algorithm", "")), _count("ranks", row["ranks"]), seconds, spread)


def _known(part: str, row: Mapping[str, Any]) -> None:
    unknown = [name for name in row if name not in KNOWN[part]]
    if unknown:
        raise ValueError(f"{part} has no `{unknown[0]}`, it has {', '.join(f'`{name}`' for name in KNOWN[part])}")


def _amount(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"`{name}` is a number above 0, not {value!r}")
    return float(value)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` is a whole number above 0, not {value!r}")
    return value


def _spread(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"`spread` is a number, not {value!r}")
    if value < 0:
        raise ValueError(f"a spread of {value} is below 0")
    return float(value)


def _short(value: float) -> float:
    """Four digits: more were not measured."""
    return float(f"{value:.4g}")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
