"""How a setting is seen to be honoured: what is compiled of two texts that differ in it differs too, or it is refused.

The texts are made from the language's own schemas, so a new setting is tested as soon as it is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlc.diagnostics import DiagnosticError
from dlc.driver import Compiled, emit_files
from dlc.expand.fields import Field
from tests.driver.conftest import CLUSTER, TRAIN, Compile, spec

WIDE = CLUSTER.replace("topology { core[2] over shm }", "topology { node[2] over shm { core[3] over shm } }")

UNITS = {"size": "MiB", "rate": "GB/s", "compute": "GFLOP/s", "time": "us", "length": "epochs"}


def another(field: Field) -> str:
    """A value of the field that is not its default."""
    if field.kind == "word":
        return next(choice for choice in field.choices if choice != field.default)
    match field.kind:
        case "flag":
            return "no" if field.default is True else "yes"
        case "path" | "name":
            return '"elsewhere"'
        case "window":
            return "2x3"
        case "list":
            return f"[{field.choices[0]}]"
        case "number":
            low = field.above if field.above is not None else field.minimum
            start = field.default if isinstance(field.default, int | float) and field.default else 0.5
            return repr(start / 2 if low is None or start / 2 > low else start * 2 + 1)
        case "count":
            return str(field.default + 1 if isinstance(field.default, int) else 3)
    return f"3 {UNITS[field.kind]}"


def calls(kind: str, fields: tuple[Field, ...]) -> Iterator[tuple[str, str]]:
    """(a call, the call that it changes): each argument but the required ones changed by itself."""
    required = [f"{field.key} = {another(field)}" for field in fields if field.required]

    def call(*arguments: str) -> str:
        return f"{kind}({', '.join((*required, *arguments))})" if (*required, *arguments) else kind

    yield call(), ""
    for field in fields:
        if not field.required and field.choices != (field.default,):
            yield call(f"{field.key} = {another(field)}"), call()


def outcome(compiled: Compile, text: str, **options: object) -> Compiled | None:
    """The compiled job; None where the backend refuses it, and nothing else is wrong with it."""
    try:
        return compiled(text, **options)
    except DiagnosticError as error:
        if {diagnostic.code for diagnostic in error.diagnostics} != {"E0701"}:
            raise
        return None


def signature(job: Compiled) -> tuple[object, ...]:
    """All that is made of a job, but the digest of its text and the places in it that plan.json names."""
    files = emit_files(job)
    ops = tuple((op.address, op.layout, op.passes) for op in job.plan.ops)
    buckets = tuple(replace(bucket, reason=job.plan.ops[0].reason) for bucket in job.plan.buckets)
    return files["train.py"], files["rates.py"], sorted(files), ops, buckets, job.plan.predicted


_SEEN: dict[tuple[str, str], tuple[object, ...] | None] = {}


def seen(compiled: Compile, text: str, **options: object) -> tuple[object, ...] | None:
    """The signature of a text's job, None where it is refused: each text is compiled once, many are asked for often."""
    key = (text, repr(sorted(options.items())))
    if key not in _SEEN:
        job = outcome(compiled, text, **options)
        _SEEN[key] = None if job is None else signature(job)
    return _SEEN[key]


def assert_kept(compiled: Compile, changed: str, base: str, **options: object) -> bool:
    """Whether the changed text is honoured; otherwise it is refused."""
    found, before = seen(compiled, changed, **options), seen(compiled, base, **options)
    assert found is None or before is None or found != before
    return found is not None


def train(setting: str) -> str:
    """A job whose train block has one more setting, or another value of one that it has."""
    key = setting.partition("=")[0].strip()
    lines = [line for line in TRAIN.splitlines() if line.split("=")[0].strip() != key]
    return spec(train="\n".join([*lines[:-1], f"  {setting}", "}"]) + "\n")
