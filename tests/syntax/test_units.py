"""Units in and out."""

from __future__ import annotations

import pytest

from dlc.units import (
    UNITS,
    Amount,
    format_bytes,
    format_compute,
    format_count,
    format_flops,
    format_rate,
    format_seconds,
    in_si,
)


@pytest.mark.parametrize(
    ("value", "unit", "amount"),
    [
        (4, "GiB", Amount(4 * 2**30, "size", "B")),
        (1.5, "KiB", Amount(1536, "size", "B")),
        (0.1, "KB", Amount(100, "size", "B")),
        (40, "GB", Amount(40 * 10**9, "size", "B")),
        (900, "GB/s", Amount(900 * 10**9, "rate", "B/s")),
        (100, "Gbit/s", Amount(12.5e9, "rate", "B/s")),
        (1, "bit/s", Amount(0.125, "rate", "B/s")),
        (2, "us", Amount(2e-6, "time", "s")),
        (1.5, "us", Amount(1.5e-6, "time", "s")),
        (3, "ns", Amount(3e-9, "time", "s")),
        (5, "s", Amount(5, "time", "s")),
        (15.7, "TFLOP/s", Amount(15.7e12, "compute", "FLOP/s")),
        (5, "epochs", Amount(5, "count", "epoch")),
        (1, "step", Amount(1, "count", "step")),
    ],
)
def test_in_si(value: float, unit: str, amount: Amount) -> None:
    assert in_si(value, unit) == amount


def test_sizes_are_integers_and_times_are_rounded_once() -> None:
    assert isinstance(in_si(2.5, "MiB").value, int)
    assert all(in_si(n, "us").value == float(f"{n}e-6") for n in range(1000))
    assert all(in_si(n, "ns").value == float(f"{n}e-9") for n in range(1000))


def test_every_unit_is_its_own_measure() -> None:
    assert all(in_si(1, symbol).kind == unit.kind for symbol, unit in UNITS.items())
    with pytest.raises(KeyError):
        in_si(1, "GG")


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (format_bytes(0), "0 B"),
        (format_bytes(17), "17 B"),
        (format_bytes(1023), "1023 B"),
        (format_bytes(1024), "1 KiB"),
        (format_bytes(1.5 * 2**30), "1.5 GiB"),
        (format_bytes(16.2 * 2**30), "16.2 GiB"),
        (format_bytes(2**60), "1048576 TiB"),
        (format_seconds(0), "0 s"),
        (format_seconds(1.31e-3), "1.31 ms"),
        (format_seconds(2e-6), "2 us"),
        (format_seconds(0.00099999), "1 ms"),
        (format_seconds(3.2e-9), "3.2 ns"),
        (format_seconds(90), "90 s"),
        (format_flops(4.089e9), "4.09 GFLOP"),
        (format_compute(125e12), "125 TFLOP/s"),
        (format_rate(900e9), "900 GB/s"),
        (format_rate(12.5e9), "12.5 GB/s"),
        (format_count(124439808), "124,439,808"),
        (format_count(0.25), "0.25"),
    ],
)
def test_for_humans(shown: str, text: str) -> None:
    assert shown == text
