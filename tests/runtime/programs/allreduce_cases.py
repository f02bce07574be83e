"""Started under mpiexec with the folder that holds the package `runtime`: all cases of allreduce_check.py."""

import sys

from allreduce_check import check_world

sys.path.insert(0, sys.argv[1])

from runtime.mpi_world import MpiWorld

world = MpiWorld()
cases = check_world(world)
if world.rank == 0:
    print(f"{cases} cases on {world.size} ranks")
