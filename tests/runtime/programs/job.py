"""Started under mpiexec: 40 steps of 50 ms with an allreduce each; one rank misbehaves in step 7.

Usage: job.py FOLDER_OF_RUNTIME COMPILED_RANKS [options]; JOB_FAULT = "RANK:how".
"""

import os
import signal
import sys
import time

sys.path.insert(0, sys.argv[1])

from runtime import ProgramError, Result, require_finite, run


def announce():
    print(f"fault at {time.monotonic()}", flush=True)


def fail():
    raise ArithmeticError("the seventh step is cursed")


FAULTS = {
    "raise": lambda world: fail(),
    "exit": lambda world: sys.exit(0),
    "os_exit": lambda world: os._exit(0),
    "kill": lambda world: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda world: os.kill(os.getpid(), signal.SIGSEGV),
    "stop": lambda world: os.kill(os.getpid(), signal.SIGSTOP),
    "kill_supervisor": lambda world: os.kill(os.getppid(), signal.SIGKILL),
    "stop_supervisor": lambda world: os.kill(os.getppid(), signal.SIGSTOP),
    "terminate_supervisor": lambda world: os.kill(os.getppid(), signal.SIGTERM),
    "skip": lambda world: time.sleep(60),
    "other": lambda world: world.barrier("another barrier"),
    "nan": lambda world: None,
    "data": lambda world: None,
    "all_raise": lambda world: None,
}


def main(world, clock, files, options):
    rank, _, how = os.environ.get("JOB_FAULT", "-1:").partition(":")
    bucket = world.bucket("gradients", 1000, "float64", "butterfly")
    steps = 40 if options.steps is None else options.steps
    loss = 0.0
    if how == "data" and world.rank == int(rank):
        announce()
        raise ProgramError("there is no file `digits.npz`", code="E0715")
    for step in range(steps):
        world.at(step)
        if step == 7 and world.rank == int(rank):
            announce()
            FAULTS[how](world)
        if step == 7 and how == "all_raise":
            fail()
        time.sleep(0.05)
        local = float("nan") if (step, world.rank, how) == (7, int(rank), "nan") else 1.0
        bucket[:] = local
        world.allreduce(bucket, "butterfly", "gradients")
        loss = float(bucket[0])
        require_finite(world, loss, step, local)
    return Result(steps=steps, loss=loss, metrics={"ranks": float(world.size)}, step_seconds=0.05)


if __name__ == "__main__":
    launched_as = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK", "0")
    if os.environ.get("JOB_FAULT") == f"{launched_as}:early":
        time.sleep(0.3)
        announce()
        raise ImportError("before the ranks know each other")
    sys.exit(run(main, name="job", ranks=int(sys.argv[2]), arguments=sys.argv[3:]))
