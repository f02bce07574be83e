"""Clusters that specs of tests are planned on; they are filled in by `str.format`, with the rest of a spec."""

from __future__ import annotations

BOX = """\
cluster box {{
  device core {{ kind = cpu, memory = 1 GiB, bandwidth = 10 GB/s, compute.f32 = 100 GFLOP/s }}
  link shm {{ bandwidth = 8 GB/s, latency = 1 us }}
  topology {{ core[{ranks}] over shm }}
}}
"""
"""So many cores of one machine."""
