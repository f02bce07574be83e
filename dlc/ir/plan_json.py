"""plan.json: a Plan as text and back; keys sorted, floats in their shortest exact form: equal plans are equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from dlc.ir.plan import Alternative, Bounds, Bucket, Figure, OpPlan, PassPlan, Plan, Prediction, Reason, Stage
from dlc.ir.request import Split
from dlc.ir.text_values import build

SCHEMA = 1

Made = TypeVar("Made")


def plan_to_json(plan: Plan) -> str:
    """The text of plan.json, ending in a newline."""
    document = {"schema": SCHEMA, **_plain(plan)}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def plan_from_json(text: str) -> Plan:
    """The Plan that a plan.json holds; ValueError, KeyError or TypeError where it is none of schema 1."""
    document = json.loads(text, parse_constant=_no_number)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"this is not a plan.json of schema {SCHEMA}")
    return _plan({key: value for key, value in document.items() if key != "schema"})


def _plain(value: Any) -> Any:
    """Dataclasses as objects without their private fields, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if not f.name.startswith("_")}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _plan(document: Mapping[str, Any]) -> Plan:
    read = dict(document)
    for name in ("mesh", "shards", "digests", "sources", "parameters"):
        read[name] = _pairs(read[name])
    read["ops"] = tuple(_op(op) for op in read["ops"])
    read["stages"] = tuple(_made(Stage, {**stage, "mesh": _pairs(stage["mesh"])}) for stage in read.get("stages", ()))
    read["buckets"] = tuple(_bucket(bucket) for bucket in read["buckets"])
    read["predicted"] = _made(Prediction, read["predicted"])
    read["bounds"] = _made(Bounds, read["bounds"])
    read["runner_up"] = None if read["runner_up"] is None else _made(Alternative, read["runner_up"])
    read["baselines"] = tuple(_made(Alternative, other) for other in read["baselines"])
    return _made(Plan, read)


def _op(document: Mapping[str, Any]) -> OpPlan:
    passes = tuple(_made(PassPlan, {**part, "figure": _made(Figure, part["figure"])}) for part in document["passes"])
    partition = tuple(_made(Split, split) for split in document["partition"])
    reasons = {name: _made(Reason, document[name]) for name in ("reason", "layout_reason", "partition_reason")}
    return _made(OpPlan, {**document, "passes": passes, "partition": partition, **reasons})


def _bucket(document: Mapping[str, Any]) -> Bucket:
    read = dict(document)
    read["members"] = tuple(read["members"])
    read["figure"] = _made(Figure, read["figure"])
    read["reason"] = _made(Reason, read["reason"])
    return _made(Bucket, read)


def _made(type_: type[Made], document: Mapping[str, Any]) -> Made:
    """A dataclass from its fields; ValueError where one is unknown, missing or of another type."""
    made: Made = build(type_, dict(document), 1)
    return made


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _pairs(rows: list[list[Any]]) -> tuple[tuple[Any, Any], ...]:
    return tuple((first, second) for first, second in rows)
