"""E07: emission and running."""

from __future__ import annotations

from dlc.diagnostics import Message

E0701 = Message(
    "E0701",
    "backend `{backend}` cannot emit {what}",
    "The plan or the spec asks for something that `dlc check` understands and the chosen backend has no code for yet.\n"
    "Nothing that is written in a spec is ever ignored, so `dlc compile` refuses it instead of doing something else.\n"
    "The help says what the backend can do in its place.",
)
E0702 = Message(
    "E0702",
    "`{path}` cannot be written: {cause}",
    "dlc writes programs and plans to a temporary name first and renames them when they are whole, so what was there\n"
    "before is untouched. Free some space, or name another folder with `-o`.",
)
E0703 = Message(
    "E0703",
    "this program was compiled for {compiled} ranks, mpiexec started {started}",
    "An emitted program has its shards and its communication laid out for one number of ranks. Start it with\n"
    "`mpiexec -n` and that number, or compile again with `dlc compile FILE -n RANKS`.",
)
E0704 = Message(
    "E0704",
    "no `mpiexec` was found to start {ranks} ranks",
    "Programs for more than one rank are started by MPI's `mpiexec`. dlc looks beside the Python that runs it and\n"
    'then on the PATH. `pip install "dlc[mpi]"` installs MPICH from PyPI; any other MPI that mpi4py finds serves too.',
)
E0705 = Message(
    "E0705",
    "`{path}` is not a {what}",
    "The command was given a file or folder of another kind: specs end in `.dlspec`, plans are the `.json` files that\n"
    "`dlc plan -o` writes, and `dlc run` also takes a folder that `dlc compile` wrote.",
)
E0706 = Message(
    "E0706",
    "the plan was made from another text of `{path}`",
    "A plan.json is applied exactly. It names the digest of the spec that it was made from, and the file has changed\n"
    "since. Make the plan again with `dlc plan FILE -o plan.json`.",
)
E0707 = Message(
    "E0707",
    "the program would deadlock or compute something else: {problem}",
    "dlc checks every program before it writes it. This one failed, which is a defect of dlc: report it with the spec.",
)
E0709 = Message(
    "E0709",
    "`{path}` does not settle which {what} is meant",
    "A program trains one network by one plan on one cluster. A file may hold several clusters, and a plan block says\n"
    "which one it is for; where there are several plans, or several clusters and no plan, name a cluster with\n"
    "`--on CLUSTER`. A file without any cluster is compiled for the machine at hand.",
)
E0710 = Message(
    "E0710",
    "the run ended with status {status}",
    "The program's own messages above say which rank failed, at which step and why.",
)
E0711 = Message(
    "E0711",
    "nothing is trained in `{path}`",
    "A program is compiled from a `train` block: it names the data, the loss, the optimizer and how long to train.\n"
    "The loss must depend on a weight of the network, or there is nothing that training could change.\n"
    "`dlc check` and `dlc inspect` work without one.",
)
E0712 = Message(
    "E0712",
    "cluster `{cluster}` cannot be resized to {ranks} ranks",
    "`-n` resizes the innermost group of a cluster and leaves the outer ones as they are, so the number of ranks must\n"
    "be a multiple of the outer groups' members. A link that lists its edges, or is a torus, joins as many members as\n"
    "are drawn, no other number; there, change the cluster: most have a parameter for the count of their outermost\n"
    "group (`-P nodes=2`). Uneven clusters are not resized at all.",
)

E0713 = Message(
    "E0713",
    "the run did not come to its end on rank {ranks}",
    "Each rank of a program leaves a record when its work is done. mpiexec reported success and a record is missing:\n"
    "a rank left early, for example through `os._exit`. Weights that the run was to write may be missing too.",
)
E0714 = Message(
    "E0714",
    "there is no cluster `{cluster}` in `{path}`",
    "`--on` names one of the clusters of the file, or of what it imports. A file without any cluster is compiled for\n"
    "the machine at hand.",
)

E0715 = Message(
    "E0715",
    "the data cannot be used: {cause}",
    "A program checks its data before the first step: files exist, are whole, and hold samples of the shapes and\n"
    "labels of the range that the network takes. The message names the file, the row where there is one, and the\n"
    "cause. Data paths start at the spec's folder, or at `--root`.",
)
E0716 = Message(
    "E0716",
    "the weights in `{path}` cannot be used: {cause}",
    "Weight files hold each weight under its address in PyTorch's order of axes. Those of another network, damaged\n"
    "files and files that cannot be written are refused; what stood there before stays.",
)
E0717 = Message(
    "E0717",
    "ranks cannot share memory: {cause}",
    "The plan sums gradients in memory that all ranks of a node share. Where ranks run on several nodes, or its\n"
    "shared memory is too small, compile with `allreduce = ring` or another algorithm in the plan block.",
)
E0718 = Message(
    "E0718",
    "the loss is not finite",
    "A loss that is infinite or not a number stops all ranks in the step where it arises: nothing after it would mean\n"
    "anything. A smaller learning rate, a warm-up or clipping (`clip = norm(1.0)`) are the usual ways out.",
)
E0719 = Message(
    "E0719",
    "the plan cannot be applied: {problem}",
    "A plan.json is applied exactly, so it must decide about every op of the network, about nothing else, and by what\n"
    "there are kernels for. One that was changed by hand may not. `dlc plan FILE -o plan.json` makes it again.",
)
E0720 = Message(
    "E0720",
    "checkpoints in `{path}` cannot be used: {cause}",
    "A run goes on from the last checkpoint that is whole, of the same network and of the same samples in the same\n"
    "order; plan and ranks may be others. Damaged ones are named, and the one before is taken. Without `--resume` a\n"
    "folder that holds checkpoints is refused, so that nothing writes over them.",
)

MESSAGES = (
    E0701,
    E0702,
    E0703,
    E0704,
    E0705,
    E0706,
    E0707,
    E0709,
    E0710,
    E0711,
    E0712,
    E0713,
    E0714,
    E0715,
    E0716,
    E0717,
    E0718,
    E0719,
    E0720,
)
