"""What an emitted program runs on: ranks, collectives, guard, data, files, progress and the command line.

This package is copied as it stands into every emitted folder. It needs the standard library and NumPy, and mpi4py
where there is more than one rank. An emitted program is one function and one call::

    from runtime import Clock, Files, Options, Result, World, run

    def main(world: World, clock: Clock, files: Files, options: Options) -> Result: ...

    if __name__ == "__main__":
        sys.exit(run(main, name="lenet5", ranks=2, description="LeNet-5 on digits"))

program.py (the entry)
    run(main, *, name: str, ranks: int, description: str = "", arguments: Sequence[str] | None = None) -> int
        Called before anything starts MPI: with several ranks this process forks, and becomes the rank's supervisor
        (supervisor.py, star.py), which says how the rank ended and ends all others; the child returns the status.
    Options: steps, epochs: int | None; load, save, predict, input, record, replay: str | None; perturb: int | None;
             resume: bool; checkpoint: str | None; json, profile, quiet: bool; root: str (where data paths start);
             stall_seconds: float;
             predicts_only: bool (outputs of given weights are asked for, and no training)
    Result(steps: int, loss: float, metrics: dict[str, float], step_seconds: float, profile: dict[str, float] = {},
           memory: Footprint | None = None)
    Clock().now() -> float (seconds)
    ProgramError(text, *, code="", notes=(), help=""): the user's or a file's mistake: printed, no traceback

world.py (Serial here, MpiWorld in mpi_world.py, threads in thread_world.py)
    world.rank, world.size: int
    world.at(step: int, what: str = "computing") -> None                  where this rank is, for the guard's messages
    world.bucket(name, elements: int, dtype, algorithm: str) -> flat zeroed array that allreduce sums
    world.allreduce(array, algorithm: str, name: str) -> None             in place, the sum over all ranks
    world.barrier(name="barrier") -> None
    world.broadcast(array, root=0, name="broadcast") -> None              arrays, in place
    world.bcast(value, root=0) -> value;  world.gather(value, root=0) -> list | None;  world.allgather(value) -> list
                                                                          small JSON values or bytes
    world.gather_rows(array, counts: Sequence[int], name=...) -> array | None   rows of all ranks, on rank 0
    world.send(array, to, name);  world.receive(array, source, name)
    world.exchange(sent, to, received, source, name)                      both at once
    world.shared_array(shape, dtype, name) -> array                       one memory for all ranks of a node
    world.abort(status=1)
    world.subworld(ranks) -> World                                        of some of them, who all must call it
    world.start(step, name, serial), world.test(started), world.wait_until(ready, name)   messages that only begin
    run_threads(main, ranks: int, rendezvous=False) -> list               main(world) on virtual ranks (thread_world.py)

collectives.py
    ALGORITHMS: tree, butterfly, ring, rabenseifner, shared, mpi
    scratch_elements(algorithm, ranks, elements) -> int                   what a bucket needs beside its values

device.py (another one in programs on GPUs)
    zeros(elements, dtype) -> array;  copy(target, source);  host(array) -> array   of the device, between it and here
    run(calls, ended, apart=False) -> None                                functions of a step

guard.py
    require_finite(world, loss: float, step: int, local: float | None = None, what: str = "loss") -> None
                                                                          raises ProgramError alike on all ranks
    skipped(steps, step: int) -> bool                                     whether the scaled gradients were not finite

data.py, readers.py, sequences.py
    digits(scale=1, *, input="image", test=0.0, seed=0) -> Dataset        uint8 / 16 as [sample, 1, 8 scale, 8 scale]
    mnist(files, folder, *, pad=0, input="image"), cifar10(files, folder, *, input="image") -> Dataset
    npz(files, file, *, names: Sequence[str], test=0.0, seed=0) -> Dataset
    synthetic(shapes: dict[str, tuple[int, ...]], *, below: dict[str, int] = {}, next="", samples=1024, classes=10,
              test=0.0, seed=0) -> Dataset
    text(files, file, *, seq, input="text", classes=None, test=0.0, seed=0) -> Dataset
    tokens(files, file, *, seq, input="tokens", test=0.0, seed=0) -> Dataset
    own_samples(file, shapes, classes) -> Samples                         what --input names
    Dataset.train, Dataset.test: Samples;  dataset.about: str;  len(samples);  samples.names
    dataset.require(shapes: dict[str, tuple[int, ...]], classes: dict[str, int] = {}) -> None
    Loader(samples, batch: int, *, seed=0, shuffle=True, last="drop" | "keep", layouts: dict[str, str] = {})
        loader.steps_per_epoch;  loader.indices(step) -> the global batch of that step, step counted from the start
        loader.fill(indices, buffers: dict[str, array]) -> None           arrays of exactly len(indices) samples
    shard(samples: int, ranks: int, rank: int) -> (start, stop)           extents differ by at most one
    For evaluation: Loader(dataset.test, batch, shuffle=False, last="keep"), every sample once in steps_per_epoch.

arrays.py, tables.py (what a table has in its rows), spec.py ("N/data 64/model 7 7": which part a rank has)
    Array(shape, dtype=None, halo=(), shared=""), Temporary(shape), Saved(shape), View(of, shape, offset=0, dtype=None),
    Part(of, shape), Bucket(weights), Member(of, shape), Weight(shape, init), Statistic(shape, init), Scratch(rooms);
    shapes are tuples of extents with N, or specs
    Halo(axis, results, before, after, stride=1, step=1, window=0)        rows of an axis that windows read
    Arrays(table, place, dtype, slots=1).at(samples, slot=0) -> namespace

memory.py, packing.py, in_place.py
    share({"a": arrays, "g": arrays}, window, functions, training, inference, outputs)    memory of what is not kept

place.py, groups.py, registry.py, exchange.py, by_rows.py, sums.py, traffic.py (programs on a mesh)
    Place(world, mesh, *, batch, microbatches=1, levels={}): stage, number, index(over)
        batch(loader, indices, step=, lr=)
        fill(at, arrays); pads(array, pad); origin(*arrays, layout=""); once(array, over)
        interior(kernel, *arrays, **attrs), border(kernel, *arrays, **attrs)      rows that need no halo, and the others
        allgather, reduce_scatter, all_to_all, halo, halo_sum(source, target, over=, begin=False)
        allreduce(array, target=None, *, over, algorithm, begin=False);  wait(array);  slice(source, target)
        send(array, to=, name=);  sent(array);  receive(array, source=, name=);  share(value, stage);  settle()
        gather(array) -> whole | None;  collect(rows) -> dict | None
    At: count, samples, first, microbatch, step, updates, lr, position(over)

stages.py, schedule.py, tensors.py, tensor_files.py
    Stage(...).steps(schedule, batch) -> (function, at, slot);  Tensors(place, stages, w, s, g): gather, scatter, start
    save_tensors(tensors, path), load_tensors(tensors, path)

job.py
    Job(stages, place, clock, *, dtype, last, outputs): stage, tables, tensors, w, s, g, profile, last
        run(schedule, batch);  step(batch, loss, trace) -> loss, on a rank that is alone
        evaluation(samples, metrics);  write_outputs(samples, file, progress);  load, save(file)
        measure(options), footprint(options) -> Footprint | None

trace.py
    Trace(...): what `dlc verify` compares, written by --record

files.py
    Files(root).inside(path) -> Path                                      a regular file or folder inside the root
    save_arrays(path, arrays), load_arrays(path) -> dict                  .npz or .safetensors, by name; atomic
    save_npz(path, arrays), load_npz(path) -> dict                        atomic; checked
    save_weights(world, path, weights: dict[str, array]);  load_weights(world, path, weights)   rank 0's file, in place

checkpoint.py, generations.py, stop.py, requests.py
    Checkpoints(tensors, loader, files, options, progress, every=0, to="", stop=None)
        .begin(steps) -> (steps that are done, loss);  .after(step, loss, last=)   raises Suspended where it was asked
    Below(bound), Patience(over): .heed(step, loss | None);  .reached
    listen_to(position): SIGUSR1 and SIGTERM become requests that `after` does

progress.py
    Progress(world, clock, options, *, steps: int, steps_per_epoch: int)
        .step(step, loss: float | None = None);  .epoch(epoch, loss, metrics: dict[str, float]);  .note(text)
        .predicted(count, total);  .step_seconds -> median seconds of a step
    Profile(clock): .start();  .lap(segment: str);  .medians() -> dict[str, float]
"""

from .arrays import Array, Arrays, Bucket, Member, N, Part, Saved, Scratch, Temporary, View, each, found
from .checkpoint import Checkpoints
from .clock import Clock
from .data import Dataset, Loader, Samples
from .failures import ProgramError
from .files import Files, load_arrays, load_npz, load_weights, save_arrays, save_npz, save_weights
from .guard import require_finite, skipped
from .job import Job
from .place import Place
from .position import Position
from .program import Options, Result, run
from .progress import Profile, Progress
from .readers import cifar10, digits, mnist, npz, own_samples, synthetic
from .sequences import text, tokens
from .spec import Halo, shard
from .stages import Stage
from .stop import Below, Patience
from .tables import Statistic, Tables, Weight, tables
from .tensor_files import load_tensors, save_tensors
from .tensors import Tensors
from .thread_world import run_threads
from .trace import Trace
from .world import Serial, World

__all__ = [
    "Array",
    "Arrays",
    "Below",
    "Bucket",
    "Checkpoints",
    "Clock",
    "Dataset",
    "Files",
    "Halo",
    "Job",
    "Loader",
    "Member",
    "N",
    "Options",
    "Part",
    "Patience",
    "Place",
    "Position",
    "Profile",
    "ProgramError",
    "Progress",
    "Result",
    "Samples",
    "Saved",
    "Scratch",
    "Serial",
    "Stage",
    "Statistic",
    "Tables",
    "Temporary",
    "Tensors",
    "Trace",
    "View",
    "Weight",
    "World",
    "cifar10",
    "digits",
    "each",
    "found",
    "load_arrays",
    "load_npz",
    "load_tensors",
    "load_weights",
    "mnist",
    "npz",
    "own_samples",
    "require_finite",
    "run",
    "run_threads",
    "save_arrays",
    "save_npz",
    "save_tensors",
    "save_weights",
    "shard",
    "skipped",
    "synthetic",
    "tables",
    "text",
    "tokens",
]
