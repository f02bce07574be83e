"""What documents show is what users see: programs with kernels in C, whether there is a compiler or not."""

import pytest


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_KERNELS", "c")
