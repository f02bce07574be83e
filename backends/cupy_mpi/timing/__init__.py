"""What a GPU takes for kernels, products of matrices, copies and launches: by its events, in other processes.

    for found in time_on_gpu([Case("relu", "forward", shapes), Products("bf16", 512, 512, 512)]):
        print(found.seconds, found.spread)

With `emulate="numpy"` the processor stands for the GPU: all of it runs, and the figures say nothing.
"""

from backends.cupy_mpi.timing.jobs import Copies, Job, Launches, Products, runtime_of_gpus
from backends.cupy_mpi.timing.process import GpuError, GpuTiming, properties, time_on_gpu

__all__ = [
    "Copies",
    "GpuError",
    "GpuTiming",
    "Job",
    "Launches",
    "Products",
    "properties",
    "runtime_of_gpus",
    "time_on_gpu",
]
