"""Write the program that trains the network: a folder of readable Python that needs no dlc.

A plan.json is applied exactly as it stands, nothing is decided again.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from dlc import driver
from dlc.commands.answer import Answer, UsageError
from dlc.commands.arguments import add_planning, add_tuning, nearest, options_of
from dlc.commands.tuning import tuned
from dlc.folders import write_folder

EXAMPLES = """\
  dlc compile specs/lenet5.dlspec -o build/lenet5
  dlc compile specs/lenet5.dlspec -n 4 -o build/four
  dlc compile plan.json -o build/planned
  dlc compile specs/lenet5.dlspec --backend cupy -o build/gpu
  dlc run build/lenet5                             # or: mpiexec -n 2 python -I build/lenet5/train.py"""

BACKENDS = ("numpy", "cupy")


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE|plan.json", help="a .dlspec file with a train block, or a plan of one")
    add_planning(parser)
    add_tuning(parser)
    parser.add_argument("--backend", default="numpy", metavar="BACKEND", help="numpy (the default), or cupy for GPUs")
    parser.add_argument("-o", dest="out", metavar="FOLDER", required=True, help="the folder to write, such as build/")


def run(arguments: Namespace) -> Answer:
    """Compile and write; what stood there before is replaced only by a whole program."""
    from dlc.inspect.plan_table import summary

    if arguments.backend not in BACKENDS:
        why = f"the backends are {', '.join(BACKENDS)}"
        raise UsageError(f"there is no backend `{arguments.backend}`{nearest(arguments.backend, BACKENDS)}: {why}")
    if arguments.backend == "cupy":
        if arguments.kernels not in (None, "auto"):
            raise UsageError("`--kernels` chooses among those of processors, the backend `cupy` has kernels in CUDA")
        arguments.kernels = "numpy"  # the plan's ops are those of NumPy's kernels, one by one
    compiled = compiled_file(arguments)
    files = driver.emit_files(compiled, arguments.backend)
    write_folder(files, arguments.out)
    ranks = compiled.plan.ranks
    text = (
        f"{summary(compiled.plan)}\n\nwrote {arguments.out} ({len(files)} files); `dlc run {arguments.out}` starts it"
    )
    document = {"out": arguments.out, "files": list(files), "ranks": ranks, "network": compiled.plan.network}
    return Answer(text, document, diagnostics=compiled.warnings, sources=compiled.source.texts)


def compiled_file(arguments: Namespace) -> driver.Compiled:
    """The program of a .dlspec file, or of a plan.json, which leaves nothing to other options."""
    options = options_of(arguments)
    decided = options.parameters or options.ranks is not None or options.cluster is not None
    if not arguments.file.endswith(".json"):
        source = driver.read(arguments.file, options.parameters)
        return driver.compile_spec(source, tuned(source, options, arguments))
    kernels = None if options.fused else options.kernels  # of the backend `cupy` they are none that were asked for
    if decided or kernels or arguments.tune:
        away = "leave `-P`, `-n`, `--on`, `--kernels` and `--tune` away"
        raise UsageError(f"a plan.json is applied exactly: {away}, or name the .dlspec file")
    return driver.compile_file(arguments.file, options)
