"""E04: messages about devices, links and the topology of a cluster."""

from dlc.diagnostics import Message

WRONG_QUANTITY = Message(
    "E0401",
    "`{key}` is {expected}, {found}",
    """Every setting of a device or link is a quantity of one kind, and a quantity is written with its unit.

* sizes: `4 GiB`, `900 MB`
* rates: `900 GB/s`, `100 Gbit/s`
* times: `2 us`, `1 ms`
* speeds of computing: `50 GFLOP/s`, `15.7 TFLOP/s`

A bare number is refused where a quantity is due: nobody can tell gigabytes from bytes in `memory = 32`. Counts,
shares and factors (`cores = 8`, `overlap = 0.5`, `oversubscription = 2`) are bare numbers.""",
)

UNKNOWN_SETTING = Message(
    "E0402",
    "{where} has no {what} {key}",
    """A device, a link and a cluster each know a fixed list of settings, and nothing written is ever ignored: a
setting that is not in the list is a mistake, most often of spelling. The message names the nearest setting and lists
all.""",
)

MISSING_SETTING = Message(
    "E0403",
    "{where} needs the {what} `{key}`",
    """Costs cannot be predicted without the figures that they are made of. A device needs `memory`, `bandwidth` and
`compute.f32`; a link needs `bandwidth` and `latency`. Figures of many machines stand in their vendors' data sheets;
`dlc calibrate` measures those of the machine at hand.""",
)

OUT_OF_RANGE = Message(
    "E0404",
    "`{key}` must be {allowed}, not {found}",
    """Sizes, rates, counts of members and speeds are above zero, latencies and launch times may be zero, `overlap` is
a share between 0 and 1, and `oversubscription` is at least 1. Counts are whole numbers.""",
)

UNKNOWN_CHOICE = Message(
    "E0405",
    "{found} is not {what}",
    """The setting takes one of a few words, and this is none of them. The message lists the words that it takes.""",
)

SET_TWICE = Message(
    "E0406",
    "`{key}` is set twice in {where}",
    """Each setting is given once. Which of the two is meant is for the author to say: remove the other.""",
)

UNKNOWN_DEVICE = Message(
    "E0407",
    "`{name}` is not a device of cluster `{cluster}`",
    """The innermost groups of a topology name devices: `node[4] over infiniband { v100[8] over nvlink }` needs a
`device v100`, inside the cluster or standing alone in a file. A group with braces behind it may have any name.""",
)

UNKNOWN_LINK = Message(
    "E0408",
    "`{name}` is not a link of cluster `{cluster}`",
    """`over` names the link that joins the members of a group; a `link` of that name must stand inside the cluster,
or alone in a file.""",
)

NO_LINK = Message(
    "E0409",
    "group `{name}` has {count} members and no link between them",
    """Members of a group talk to each other over a link, so a group of more than one member says which: `v100[8] over
nvlink`. A group of one member needs none.""",
)

TOO_MANY_DEVICES = Message(
    "E0410",
    "cluster `{cluster}` has {count} devices, at most {limit} are allowed",
    """The language bounds a cluster at 65,536 devices, so that planning always ends. Group counts multiply:
`node[1000]` around `gpu[100]` are 100,000 devices.""",
)

SHAPE_MISMATCH = Message(
    "E0411",
    "link `{link}` joins {joined} members, group `{group}` has {count}",
    """A torus and a list of edges say how many members they join: `torus(4x4)` joins 16, `edges = [[0, 1], [1, 2]]`
joins 3. The group that uses the link must have exactly as many members. Other shapes (all_to_all, switch, ring,
fat_tree) fit any number.""",
)

BAD_EDGES = Message(
    "E0412",
    "`edges` of link `{link}` {fault}",
    """Edges are pairs of different members, counted from 0: `edges = [[0, 1], [1, 2], [2, 0]]`. Each pair stands
once, and every member must be reachable from every other, or some transfers would have no way to go.""",
)

OUTSIDE_ROOT = Message(
    "E0413",
    "`{path}` leads out of the folder of the compiled file",
    """Files that a .dlspec file names stay inside its root folder: relative paths, without a way out through `..`. So
a file from elsewhere can be checked and compiled without reading anything else of the machine.""",
)

NO_TOPOLOGY = Message(
    "E0414",
    "cluster `{cluster}` has no topology",
    """`topology { core[2] over shm }` says how many devices there are and how they are joined. Without it there is
nothing to plan for.""",
)

NO_COMMON_LINK = Message(
    "E0415",
    "no link joins `{name}` to the group before it",
    """Groups that stand side by side are joined by the link of the group around them: `machine over ethernet {
fast[2] over pcie; slow[4] over shm }`. So a topology has one outermost group, and a group with several different
children names a link even where it stands once.""",
)

UNREADABLE_PROFILE = Message(
    "E0416",
    "the profile `{path}` cannot be read: {cause}",
    """A device's `profile` names a JSON file of measured figures, beside the spec or below it. `dlc calibrate`
writes one; the docstring of `dlc/cost/profile_json.py` gives its form. Without a profile, plans are made from the
device's peak figures.""",
)

OTHER_MACHINE = Message(
    "W0401",
    "the profile `{path}` was measured on another machine than this one",
    """A profile holds the fingerprint of the machine that it was measured on: the processor, its vector instructions,
how many cores may be used, and NumPy's version. Plans for that machine rest on it rightly, wherever they are made; for
this one they may choose what is slow here, and the times that they predict are those of the other. `dlc calibrate`
measures this machine, in two minutes at most.""",
)

MESSAGES = (
    WRONG_QUANTITY,
    UNKNOWN_SETTING,
    MISSING_SETTING,
    OUT_OF_RANGE,
    UNKNOWN_CHOICE,
    SET_TWICE,
    UNKNOWN_DEVICE,
    UNKNOWN_LINK,
    NO_LINK,
    TOO_MANY_DEVICES,
    SHAPE_MISMATCH,
    BAD_EDGES,
    OUTSIDE_ROOT,
    NO_TOPOLOGY,
    NO_COMMON_LINK,
    UNREADABLE_PROFILE,
    OTHER_MACHINE,
)
