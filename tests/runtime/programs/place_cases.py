"""Started under mpiexec with the folder of the package `runtime`: all checks of place_check.py on some seeds."""

import sys

from place_check import CHECKS

sys.path.insert(0, sys.argv[1])

import runtime
from runtime.mpi_world import MpiWorld

world = MpiWorld()
for check in CHECKS:
    for seed in range(int(sys.argv[2]), int(sys.argv[3])):
        check(runtime, world, seed)
world.barrier()
if world.rank == 0:
    print("done")
