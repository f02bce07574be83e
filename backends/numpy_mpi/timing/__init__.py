"""How long a kernel takes: one call of it, as emitted programs make it, in a process of its own.

    for timing in time_kernels([Case("relu", "forward", shapes, kernels="c")], threads=1):
        print(timing.seconds, timing.spread)

A `Case` names a kernel as `dlc.cost.compute.seconds` does: whatever has a price can be timed. The process is given a
folder with the very files that an emitted program has: the modules of NumPy kernels, kernels.c and compiled.py.
"""

from backends.numpy_mpi.timing.cases import Case, NoKernelError
from backends.numpy_mpi.timing.process import Timing, Turns, time_kernels, turns_of
from backends.numpy_mpi.timing.reference import Reading

__all__ = ["Case", "NoKernelError", "Reading", "Timing", "Turns", "time_kernels", "turns_of"]
