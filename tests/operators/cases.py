"""All cases, by the families of operators that they stand with."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.operators.case import Draw, Reference

HERE = Path(__file__).parent


def gathered(kind: str) -> list[object]:
    """What the modules `KIND_FAMILY.py` of this folder call KIND in capitals."""
    names = sorted(path.stem for path in HERE.glob(f"{kind}_*.py"))
    return [getattr(import_module(f"tests.operators.{name}"), kind.upper()) for name in names]


def cases() -> dict[str, Draw]:
    """Name (`op` or `op/variant`) -> how a configuration is drawn."""
    return {name: draw for family in gathered("cases") for name, draw in family.items()}  # type: ignore[attr-defined]


def references() -> dict[str, Reference]:
    """Operator -> the same in PyTorch, which must be installed."""
    return {name: op for family in gathered("references") for name, op in family.items()}  # type: ignore[attr-defined]
