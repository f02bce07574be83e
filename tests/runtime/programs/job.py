"""Started under mpiexec: 40 steps of 50 ms with an allreduce each. One rank misbehaves in step 7 as the environment says.

Usage: job.py FOLDER_OF_RUNTIME COMPILED_RANKS [options]; JOB_FAULT = "RANK:how".
"""

import os
import signal
import sys
import time

sys.path.insert(0, sys.argv[1])

from runtime import Result, require_finite, run  # noqa: E402


def misbehave(how, world):
    if how == "raise":
        raise ArithmeticError("the seventh step is cursed")
    if how == "exit":
        sys.exit(0)
    if how == "os_exit":
        os._exit(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "kill_both":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "kill_supervisor":
        os.kill(os.getppid(), signal.SIGKILL)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "stop_supervisor":
        os.kill(os.getppid(), signal.SIGSTOP)
    if how == "terminate_supervisor":
        os.kill(os.getppid(), signal.SIGTERM)
    if how == "skip":
        time.sleep(60)
    if how == "other":
        world.barrier("another barrier")


def main(world, clock, files, options):
    rank, _, how = os.environ.get("JOB_FAULT", "-1:").partition(":")
    bucket = world.bucket("gradients", 1000, "float64", "butterfly")
    steps = 40 if options.steps is None else options.steps
    loss = 0.0
    for step in range(steps):
        world.at(step)
        if step == 7 and world.rank == int(rank):
            misbehave(how, world)
        if step == 7 and how == "all_raise":
            raise ArithmeticError("all at once")
        time.sleep(0.05)
        local = float("nan") if (step, world.rank, how) == (7, int(rank), "nan") else 1.0
        bucket[:] = local
        world.allreduce(bucket, "butterfly", "gradients")
        loss = float(bucket[0])
        require_finite(world, loss, step, local)
    return Result(steps=steps, loss=loss, metrics={"ranks": float(world.size)}, step_seconds=0.05)


if __name__ == "__main__":
    if os.environ.get("JOB_FAULT") == os.environ.get("PMI_RANK", "0") + ":early":
        time.sleep(0.3)
        raise ImportError("before the ranks know each other")
    sys.exit(run(main, name="job", ranks=int(sys.argv[2]), arguments=sys.argv[3:]))
