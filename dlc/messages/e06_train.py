"""E06: messages about the train block."""

from dlc.diagnostics import Message

MISSING_SETTING = Message(
    "E0601",
    "{where} needs the {what} `{key}`",
    """A train block says at least what to train on (`data`), what to minimise (`loss`), how (`optimizer` and `lr`)
and for how long (`epochs` or `steps`). These decide the result, so none of them has a default.""",
)

TWO_LENGTHS = Message(
    "E0602",
    "the train block gives both `epochs` and `steps`",
    """The length of training is given once: in passes over the data (`epochs = 20`) or in updates (`steps = 5000`).""",
)

UNKNOWN_SETTING = Message(
    "E0603",
    "{where} has no {what} {key}",
    """A train block knows a fixed list of settings, and nothing written is ever ignored: a setting that is not in the
list is a mistake, most often of spelling. The message names the nearest setting and lists all.""",
)

UNKNOWN_CHOICE = Message(
    "E0604",
    "{found} is not {what}",
    """The setting takes one of the choices that the message lists: optimizers, schedules, data sets, losses, metrics
and so on are the language's own and have fixed names.""",
)

WRONG_KIND = Message(
    "E0605",
    "`{key}` is {expected}, {found}",
    """The setting takes a value of another kind: a number, a word, yes or no, a quoted text, a length such as `5
epochs` or `2000 steps`.""",
)

OUT_OF_RANGE = Message(
    "E0606",
    "`{key}` must be {allowed}, not {found}",
    """Rates and counts have bounds: a momentum of 1 or more never forgets, a learning rate is not below zero, a test
share is below 1. The message names the bound.""",
)

SET_TWICE = Message(
    "E0607",
    "`{key}` is set twice in {where}",
    """Each setting is given once. Which of the two is meant is for the author to say: remove the other.""",
)

NO_LENGTH = Message(
    "E0608",
    "`{piece}` needs `over`: a schedule follows it",
    """Schedules joined by `then` run one after the other, so every piece but the last says how long it lasts:
`warmup(to = 0.4, over = 5 epochs) then constant(0.4)`. The last one lasts to the end of training.""",
)

WRONG_SAMPLE = Message(
    "E0609",
    "the network's input `{input}` is {wanted}, a sample of `{data}` is {given}",
    """The data set feeds the network's inputs, so a sample has the shape and the element type that the input
declares, batch apart. Many data sets can be scaled or padded: `digits(scale = 4)` gives 32x32, `mnist("dir", pad =
2)` too.""",
)

NOT_A_LOSS = Message(
    "E0610",
    "`loss` is a loss or a weighted sum of losses, {found} is not",
    """The loss is what training minimises: a loss function such as `cross_entropy(logits, data.label)`, or a weighted
sum of some, `cross_entropy(a, data.label) + 0.3 * cross_entropy(b, data.label)`.

Nothing but sums, differences and numbers as factors: then the losses of shards of a batch add up to the loss of the
whole batch, however it is spread.""",
)

OUTPUTS_ONLY = Message(
    "E0611",
    "`{name}` is not an output of network `{network}`",
    """The train block sees a network's outputs only, so that a network can be trained in several ways without knowing
of it. To use an inner value in a loss, make it an output too: `output logits, aux`.""",
)

UNKNOWN_FIELD = Message(
    "E0612",
    "data set `{data}` has no field `{field}`",
    """Besides the network's inputs, which are `data.image` and so on, a data set has fields that losses compare with:
`data.label`, `data.next`. The message lists what this one provides.""",
)

OUTSIDE_ROOT = Message(
    "E0613",
    "`{path}` leads out of the folder of the compiled file",
    """Files and folders that a .dlspec file names stay inside its root folder: relative paths, without a way out
through `..`. So a file from elsewhere can be checked and compiled without touching anything else of the machine.""",
)

NOT_A_METRIC = Message(
    "E0614",
    "`metrics` is a list of metrics, {found} is not",
    """A metric is computed beside the loss and never changes the training: `metrics = [accuracy(logits,
data.label)]`. Metrics are not added or scaled.""",
)

SHARED_METRIC = Message(
    "E0615",
    "metric `{metric}` is given twice",
    """Two equal metrics would be printed under one name. Remove one of them.""",
)

MORE_INPUTS = Message(
    "E0616",
    "data set `{data}` has nothing for the input `{input}` of network `{network}`",
    """Most data sets provide samples of one kind, for a network with one input. The arrays of an .npz file are named as
the network's inputs, so it can feed several; `synthetic` draws values for each of them.""",
)

OPEN_FIELD = Message(
    "E0617",
    "nothing says what type `data.{field}` has",
    """Arrays of an .npz file take the type that their use asks for: beside an output in a loss, as in
`mse(prediction, data.target)`. Give it as an argument of a loss or metric.""",
)

FIELD_IS_INPUT = Message(
    "E0618",
    "`{field}` is a field of the data set and an input of the network",
    """`data.NAME` is the input of that name where the network has one, as in `mse(decoded, data.image)`, and else a
field of the data set, as in `cross_entropy(logits, data.label)`. One name cannot stand for both: rename the network's
input.""",
)

MESSAGES = (
    MISSING_SETTING,
    TWO_LENGTHS,
    UNKNOWN_SETTING,
    UNKNOWN_CHOICE,
    WRONG_KIND,
    OUT_OF_RANGE,
    SET_TWICE,
    NO_LENGTH,
    WRONG_SAMPLE,
    NOT_A_LOSS,
    OUTPUTS_ONLY,
    UNKNOWN_FIELD,
    OUTSIDE_ROOT,
    NOT_A_METRIC,
    SHARED_METRIC,
    MORE_INPUTS,
    OPEN_FIELD,
    FIELD_IS_INPUT,
)
