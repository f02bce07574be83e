"""E05 and W05: messages about plans, what they ask for and what the planner finds."""

from dlc.diagnostics import Message

PINNED_TWICE = Message(
    "E0501",
    "`{key}` is pinned twice on {address}",
    """A pin is a promise: it is obeyed or refused with the reason. Two pins that give one op two different values
cannot both be kept, and none of them is more important than the other, whichever stands first or is more specific.
Narrow the selector of one (`where …`, an index), or remove it. Two pins that say the same are no mistake.""",
)

NO_MATCH = Message(
    "E0502",
    "the selector matches no op",
    """A selector is an address with wildcards: `*` stands for one segment, `**` for any number, `[3]`, `[0..3]` and
`[*]` for repeats, and `where` compares attributes. It takes every op at or below the addresses that match. One that
matches nothing is a mistake, as it would be silently ignored. `dlc inspect FILE --ops` lists the addresses.""",
)

NO_USE = Message(
    "E0503",
    "no op that `{selector}` reaches has a use for `{key}`",
    """A selector may reach ops that cannot use a setting (a relu has no algorithm to choose): those are passed by.
But each setting must reach at least one op that has a use for it, or it would be silently ignored. Algorithms are
chosen for convolutions; layouts for ops on images; partitions split an axis that the op has.""",
)

CANNOT_COMPUTE = Message(
    "E0504",
    "{algorithm} cannot compute {address}",
    """Not every algorithm computes every op: Winograd needs stride 1 and dilation 1 and a small square window. A pin
is obeyed or refused, so a pinned algorithm that cannot compute one of the ops it reaches is an error. Narrow the
selector to the ops that it can compute: `pin **.conv where window == 3x3 and stride == 1 { … }`.""",
)

UNKNOWN_CHOICE = Message(
    "E0505",
    "{found} is not {what}",
    """The setting takes one of a few words, and this is none of them. The message lists the words that it takes.""",
)

HEADS = Message(
    "E0506",
    "{heads} heads do not divide by the {degree} devices of `{over}`",
    """Other axes may be split unevenly (the first shards have one more), but attention heads are split whole and
evenly: every device computes the same number of them. Use a group whose size divides the number of heads.""",
)

UNKNOWN_GROUP = Message(
    "E0507",
    "`{name}` is not {what} of cluster `{cluster}`",
    """Mesh axes are made of the groups of the cluster's topology, and `over =` names a mesh axis or, where the plan
has no mesh axis of that name, a group. In a cluster whose groups differ from member to member, only the groups that
enclose all of it can be named.""",
)

WRONG_PRODUCT = Message(
    "E0508",
    "{factors} needs {needed}, cluster `{cluster}` has {ranks}",
    """Every device of the cluster belongs to the plan, so the extents of the mesh axes (or of `hybrid(…)`) multiply
to the number of devices. In a mesh, a group is taken whole (`model = gpu`) or in factors: `model = gpu / 4` with
`data = gpu / 2` makes axes of 4 and of 2 ranks from a group of 8, the one that stands first being the outer one.""",
)

NO_FIT = Message(
    "E0509",
    "no plan fits {limit} per device; the smallest needs {needed}",
    """Weights, gradients, optimizer states, activations, workspaces and communication buffers of a step must fit the
device's memory, and `limit memory` where there is one. The notes show what the smallest plan is made of, the helps
the cheapest ways out.""",
)

UNKNOWN_SETTING = Message(
    "E0510",
    "{where} has no {what} {key}",
    """Plans, pins and forbids know a fixed list of settings each, and nothing written is ever ignored: a setting that
is not in the list is a mistake, most often of spelling. The message names the nearest setting and lists all.""",
)

WRONG_KIND = Message(
    "E0511",
    "`{key}` is {expected}, {found}",
    """The setting takes a value of another kind: a word, yes or no, a count, a size with its unit, a partition.""",
)

RULED_OUT = Message(
    "E0512",
    "every {key} of {address} is ruled out: {reasons}",
    """Pins and forbids, with what each algorithm can compute at all, leave nothing to choose for this op. The message
gives the reason that excludes each; take one of the rules back.""",
)

SET_TWICE = Message(
    "E0513",
    "`{key}` is set twice in {where}",
    """Each setting is given once. Which of the two is meant is for the author to say: remove the other.""",
)

NO_SUCH_AXIS = Message(
    "E0514",
    "{address} cannot be split by `{axis}`",
    """A partition splits the forward iteration space of an op: `batch`, its output axes (`channel`, `feature`,
`height`, `width`), or `reduce`, the axis that it sums over. Which of them an op has depends on the operator.""",
)

SPLIT_GROUP = Message(
    "E0515",
    "a microbatch of {samples} splits the group of {group} that {address} normalises over",
    """Batch norm computes statistics over groups of consecutive samples, and a plan never changes what is computed:
so a microbatch is a union of whole groups. State smaller groups in the network (`bn(group = 4)`; this changes the
results), or plan fewer microbatches.""",
)

OUT_OF_RANGE = Message(
    "E0516",
    "`{key}` must be {allowed}, not {found}",
    """Counts, limits and extents of a plan have bounds: a plan has at least one microbatch, memory limits are above
zero, a bubble is a share between 0 and 1.""",
)

SPLIT_TWICE = Message(
    "E0517",
    "`partition` uses `{over}` twice",
    """Each device group holds one position in a partition: two axes split over the same group would give its members
no single shard. Split them over different groups or mesh axes, or split only one.""",
)

NO_FACTOR = Message(
    "E0518",
    "{factor} does not divide the {count} members of `{group}`",
    """A mesh axis may take a factor of a group: from `gpu[8]`, `model = gpu / 4` makes an axis of 4 ranks and `data =
gpu / 2` one of 2. The factors taken from a group divide it, and together use all of it.""",
)

WRONG_LIMIT = Message(
    "E0519",
    "a limit is an upper bound: `limit {subject} <= …`, not `{comparison}`",
    """Limits bound what a plan may use: memory per device, the share of idle time in a pipeline, bytes of
communication, workspace. The planner already minimises, so a lower bound has no meaning.""",
)

MISSING_SETTING = Message(
    "E0520",
    "{where} needs the {what} `{key}`",
    """The setting has no default: `split(feature, over = gpu)` has to say which axis is split over which group.""",
)

TOO_MANY_LOOKS = Message(
    "E0522",
    "{rules} selectors look at the ops of this network more than {limit:,} times",
    """Each pin and each forbid is compared with every op of the network. So that reading a file always ends, rules
times ops are bounded. Say the same with fewer rules: one selector can reach many ops.""",
)

TWO_DEGREES = Message(
    "E0523",
    "`strategy` splits `{axis}` in {degree}, the mesh in {extent}",
    """`hybrid(…)` gives the extents of the axes data, model, spatial and pipeline, and so does a mesh whose axes have
these names. Where both are written they say the same; one of them is enough.""",
)

PIPELINE_INSIDE = Message(
    "E0524",
    "the mesh axis `pipeline` of `{group}` stands inside the axis `{outer}`",
    """The stages of a pipeline are stretches of consecutive ranks: what a stage communicates inside then stays among
neighbours. So `pipeline` is the outermost axis of a mesh: it takes the outermost group of the cluster, or its first
factor, as in `mesh { pipeline = node / 4; data = node / 2; model = gpu }`.""",
)

TOO_MANY_AXES = Message(
    "E0525",
    "the mesh has {count} axes of more than one device besides `pipeline`, the planner takes {most}",
    """Every op may split any of its axes over each mesh axis, so the ways to cut it multiply with every mesh axis. Axes
that no pin names can be made one: an op that is split by several axes of its own can use the factors of one mesh axis
only together.""",
)

NO_PIPELINE = Message(
    "E0526",
    "there is no pipeline to schedule: {reason}",
    """`pipeline.schedule` says in which order the stages of a pipeline work on the microbatches. Where the strategy or
the mesh leaves no pipeline it would be silently ignored. Remove it, or ask for a pipeline: `strategy = pipeline`,
`hybrid(pipeline = 4, data = auto)`, or a mesh with the axis `pipeline`.""",
)

NO_PLAN = Message(
    "E0527",
    "no plan keeps {orders}",
    """Each of these can be kept by itself, or the cluster and the network allow none of them; together they leave no
plan, whatever memory the devices have. Pins and limits are promises: none is given up for another, so take one of them
back. Typical reasons: a stage that ops cannot all be in because others stand between them; a bound on the idle share of
a pipeline with too few microbatches; a group that is split in two ways at once.""",
)

NOT_SHARED = Message(
    "E0528",
    "not all ranks of cluster `{cluster}` share one memory",
    """`allreduce = shared` sums in memory that all ranks of a group map: CPU cores of one innermost group. Every plan
sums the loss over all ranks, so all of them have to share it. Name another algorithm, or leave the choice open.""",
)

NO_CHANGE = Message(
    "W0501",
    "this pin changes nothing: the planner chooses the same",
    """The plan would be the same without the pin. It does no harm, but it will hold the plan there when the network,
the cluster or the cost model changes.""",
)

COSTLY_PIN = Message(
    "W0502",
    "this pin costs {ratio} times the best choice ({best}, {pinned})",
    """The pin is obeyed. By the cost model, the ops it reaches would be faster without it; the message shows both
times. Measure with `dlc run` before trusting either.""",
)

INEXACT = Message(
    "W0503",
    "{algorithm} is inexact for {address}: {reason}",
    """The pin is obeyed. The planner does not choose this algorithm by itself for ops of this element type, as it loses
digits: Winograd's transforms of large tiles subtract numbers of nearly the same size. Training often bears it; compare
its loss with that of the smaller tile, `winograd(2)`, before trusting it.""",
)

UNPRICED = Message(
    "W0504",
    "`{setting}` is planned and priced as `{priced}`",
    """Cost models of plans know synchronous updates: every rank's gradients, as they are, are summed in every step.
Other updates and compressed gradients are kept as settings of the training, but which plan is best, and the time,
communication and memory that are predicted, are those of a synchronous step without compression. Take the figures as
those of the synchronous program, and measure the other one.""",
)

NO_KERNELS = Message(
    "W0505",
    "`kernels = {family}` changes nothing: {why}",
    """Kernels in C are for processors, and compute in f32 or f64. `kernels = c` in a plan block, or `--kernels c`, asks
for them where no device could use them: the plan is the same without it, and `dlc compile` writes programs whose
kernels are NumPy's, or with `--backend cupy` CUDA's. Leave it away, or change what the message names.""",
)

MESSAGES = (
    PINNED_TWICE,
    NO_MATCH,
    NO_USE,
    CANNOT_COMPUTE,
    UNKNOWN_CHOICE,
    HEADS,
    UNKNOWN_GROUP,
    WRONG_PRODUCT,
    NO_FIT,
    UNKNOWN_SETTING,
    WRONG_KIND,
    RULED_OUT,
    SET_TWICE,
    NO_SUCH_AXIS,
    SPLIT_GROUP,
    OUT_OF_RANGE,
    SPLIT_TWICE,
    NO_FACTOR,
    WRONG_LIMIT,
    MISSING_SETTING,
    TOO_MANY_LOOKS,
    TWO_DEGREES,
    PIPELINE_INSIDE,
    TOO_MANY_AXES,
    NO_PIPELINE,
    NO_PLAN,
    NOT_SHARED,
    NO_CHANGE,
    COSTLY_PIN,
    INEXACT,
    UNPRICED,
    NO_KERNELS,
)
