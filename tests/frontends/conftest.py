from __future__ import annotations

from tests.cli.conftest import dlc

__all__ = ["dlc"]
