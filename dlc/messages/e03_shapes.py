"""E03: messages about shapes. Shape rules raise them as `OperandError(code)`; the expander adds the spans."""

from dlc.diagnostics import Message

WRONG_AXES = Message(
    "E0301",
    "`{op}` needs {needed}, it is given {found}",
    """The operand has too few or too many axes, or axes that the operator has no use for.

An input's first axis is the batch. Images have the axes batch, channel, height and width, in that order; sequences
have batch, seq and one axis of features; the result of `flatten` has batch and feature.

Convolution and pooling read images, sequences and volumes. `linear` maps the last axis, which must not be the batch.
Put `flatten` between the two:

    c5 = s4 -> conv(120, 5x5) -> tanh -> flatten
    f6 = c5 -> linear(84)""",
)

WINDOW_DOES_NOT_FIT = Message(
    "E0302",
    "a {window} window does not fit an input of {input}",
    """The window is larger than the input with its pads, so the result would have no element.

The extent of a result is (input + pads - dilation * (window - 1) - 1) / stride + 1, rounded down. Where it would be
smaller than 1 the window does not fit. A smaller window helps, or `pad = same`, or a smaller stride further up.""",
)

UNEQUAL_SHAPES = Message(
    "E0303",
    "`{op}` needs equal shapes",
    """The operands have different extents, or axes of different names.

Broadcasting goes by axis name: one operand may lack axes that the other one has, as a `[channel]` beside a
`[batch, channel, height, width]`; an axis that both have must have the same extent in both, or 1 in one of them, which
is repeated. Axes that both have stand in the same order in both. `concat` lets its operands differ along the
axis that it joins, and along no other.

In residual networks the usual cause is a skip connection around a layer that changes the number of channels or
halves the image: give the skip a 1x1 convolution with the same stride.""",
)

WRONG_COUNT = Message(
    "E0304",
    "{shape} holds {needed} numbers, a sample of the operand has {found}",
    """`reshape` arranges the numbers of each sample anew; it can neither drop nor invent any.

The shape is that of one sample, without the batch: 400 numbers can become `[400]`, `[25, 16]` or `[16, 5, 5]`. One
number names the axis feature, two name seq and width, three name channel, height and width, four name channel, depth,
height and width; `axes = [group, channel]` gives other names.""",
)

WRONG_ELEMENTS = Message(
    "E0305",
    "`{op}` needs {needed}, it is given {found}",
    """The operand has the wrong type of element.

Most operators compute with floating-point numbers (f64, f32, tf32, f16, bf16). `embedding`, and the labels of
`cross_entropy` and `accuracy`, count with integers (i32, i64). Operands of arithmetic must be of one type.""",
)

NO_AXIS = Message(
    "E0306",
    "there is no axis `{axis}` in {type}",
    """An axis is named that the operand does not have.

Inputs name their axes where they are declared. `conv` and pools keep batch, channel, height and width; `flatten` makes
batch and feature; `linear` keeps the name of the axis that it maps; `transpose` swaps the last two axes and renames
`seq` to `key`; `split_heads` adds heads.""",
)

ALONG_BATCH = Message(
    "E0307",
    "`{op}` cannot work along `batch`",
    """The operator would mix the samples of a batch.

Samples are computed independently of each other, so that a batch may be spread over devices in any way. Only batch
normalisation looks across samples, and its `group` says across which.""",
)

WRONG_CLASSES = Message(
    "E0308",
    "`{output}` has {found} classes, the data set has {needed}",
    """The last axis of the logits must have one element for each class of the data set.

`digits`, `mnist` and `cifar10` have 10 classes, `synthetic` as many as its `classes` says. Give the last layer that
many features: `linear(10)`. The classes of a `text` are its distinct characters: the embedding that reads them and the
logits that guess the next one have at least as many.""",
)

UNEVEN_HEADS = Message(
    "E0309",
    "{heads} heads do not divide a width of {width}",
    """`split_heads(heads)` and `attention(heads)` cut the last axis into as many equal parts as there are heads.

Choose a number of heads that divides the width: 768 divides into 12 heads of 64.""",
)

WRONG_EXTENTS = Message(
    "E0310",
    "`{argument_name}` has {given} extents, the input has {needed}",
    """Windows, strides, pads and dilations have one extent for each axis that a window slides over.

These are the axes behind batch and channel. An image has two: `3x5` is 3 high and 5 wide. A sequence has one, a
volume three: `3x5x5` is 3 deep. One number stands for all of them: of an image `3` is `3x3`.""",
)

NOT_AN_IMAGE = Message(
    "E0311",
    "`{op}` needs batch, channel and one to three axes more, it is given {type}",
    """Convolution and pooling slide a window over the axes that stand behind the batch and the channels.

Images have two of them (batch, channel, height, width), sequences one (batch, channel, length) and volumes three
(batch, channel, depth, height, width). Axes count by their position and may have other names. What `flatten` and
`linear` make is no image any more: `reshape([channels, height, width])` makes one.""",
)

UNEVEN_GROUPS = Message(
    "E0312",
    "{count} {what} do not divide into {groups} groups",
    """A grouped convolution cuts its input channels and its filters into equal groups, `groupnorm` its channels.

These numbers must be multiples of `groups`. With as many groups as channels, each channel is filtered by itself.""",
)

AXIS_TWICE = Message(
    "E0313",
    "the result of `{op}` would have two axes named `{axis}`",
    """The axes of a value are told apart by their names, so no two may have the same name, and no list of axes may name
one twice.

`transpose` renames `seq` to `key` for this reason: `q @ transpose(k)` has the axes seq and key.""",
)

WRONG_LABELS = Message(
    "E0314",
    "`{op}` needs labels of {needed}, they are {found}",
    """There is one label, an integer, for each row of logits.

Labels have the axes of the logits without the last one, which holds the classes: logits of
f32[batch = 32, feature = 10] go with labels of i32[batch = 32].""",
)

TOP_IS_ALL = Message(
    "E0315",
    "the top {top} of {classes} classes is every class",
    """`accuracy(logits, label, top = n)` counts a sample where its label is among the n largest logits.

With n as large as the number of classes every sample counts, so the figure says nothing. Choose a smaller `top`.""",
)

SINGLE_VALUE = Message(
    "E0316",
    "`bn` has a single value for each channel in a group of {samples}",
    """Batch normalisation divides by the spread of the values, and one value has no spread.

A group of n samples of H x W pixels has n * H * W values for each channel. Choose a larger batch or a larger `group`,
and one that leaves no single sample over: with a batch of 33, `group = 32` leaves a group of 1. `layernorm`
normalises each sample by itself.""",
)

NOT_SQUARE = Message(
    "E0317",
    "`causal_mask` needs as many keys as queries, it is given {found}",
    """`causal_mask` hides from each position the positions after it.

It reads scores whose last two axes count the queries and the keys of the same sequence, as `q @ transpose(k)` makes
them.""",
)

TIED_SHAPE = Message(
    "E0318",
    "`{address}` is {found}, this `{op}` needs {needed}",
    """A tied weight is one weight used twice, so both uses must give it the same shape.

`linear(features, tied = w)` needs a weight of [features, width of its input], in that order. That is the shape of
the weight of an `embedding(features, width)`. `linear(features, tied = transpose(w))` uses w transposed, so w is
[width of its input, features]: the decoder of an autoencoder borrows its encoder's weight in this way.""",
)

PAD_TOO_LARGE = Message(
    "E0319",
    "a pad of {pad} is more than half of a {window} window",
    """A pooling window that lies outside the image has nothing to pool.

As in PyTorch, the pad on each side of an image is at most half of the window. `pad = same` keeps to that.""",
)

WRONG_OPERANDS = Message(
    "E0320",
    "`{op}` takes {needed}, it is given {found}",
    """The operator is given too few or too many operands.

`+`, `-`, `*` and `/` take two values, or a value and a number. `concat` joins any number of values, at least one.""",
)

NO_CONTRACTION = Message(
    "E0321",
    "`@` cannot contract {left} with {right}",
    """A matrix product sums over the left operand's last axis and the right operand's last but one.

These two must have the same extent. The axes before the last two number the products and broadcast by their names:
one operand may lack some of those that the other one has. `transpose` swaps the last two axes of an operand.""",
)

OUTPUT_PAD = Message(
    "E0322",
    "an `output_pad` of {pad} is neither below the stride of {stride} nor below the dilation of {dilation}",
    """`output_pad` makes the result of a transposed convolution longer at the end of an axis.

With stride s a convolution maps up to s extents to the same one; `output_pad` says which of these the transposed
convolution returns to, so it is below the stride (or, as in PyTorch, below the dilation).""",
)

NOTHING_LEFT = Message(
    "E0323",
    "the pads of `conv_transpose` leave nothing of a result of {result}",
    """The pads of a transposed convolution are taken off its result.

The extent of a result is (input - 1) * stride + dilation * (window - 1) + 1 + output_pad - pads. A smaller pad or a
larger stride leaves something.""",
)

WRONG_ORDER = Message(
    "E0331",
    "`order` names each axis behind the batch once: {needed}",
    """`transpose(order = [height, width, channel])` puts the axes behind the batch in that order.

Each of them is named, and none twice; the batch stays the first axis. Without an order the last two axes are swapped,
and `seq` is renamed to `key`.""",
)

NOTHING_TAKEN = Message(
    "E0332",
    "`slice` needs elements of {axis} to take, {fault}",
    """`slice(axis, start, stop, step)` takes every step-th element from `start` up to, but not including, `stop`.

Bounds lie within the axis: from 0 up to its extent, or below zero, counted from the end, so that `start = -2` takes
the last two elements. A step below zero goes backwards. What is not given is all the way.""",
)

UNEVEN_PARTS = Message(
    "E0333",
    "`split` needs parts that add up to {axis}, {fault}",
    """`split(n)` cuts an axis into n parts of equal extent, `split([3, 5])` into parts of the extents in the list.

The parts hold every element of the axis, each one once: `a, b = x -> split([3, 5])` takes eight channels apart.
`slice` takes some elements of an axis and drops the others.""",
)

WRONG_MARGINS = Message(
    "E0334",
    "`pad` needs {needed}, it is given {found}",
    """`pad` adds elements before and after a value's own, along height and width or along the axes that are named.

`pad(1)` adds one on each side of each axis, `pad(1x2)` one above and below and two left and right,
`pad([[0, 1], [2, 2]])` none above, one below and two left and right. `pad([2, 0], axis = seq)` adds two before the
first place of a sequence. `mode = reflect` mirrors at the outermost elements, so it needs more elements than it
adds.""",
)

MESSAGES = (
    WRONG_AXES,
    WINDOW_DOES_NOT_FIT,
    UNEQUAL_SHAPES,
    WRONG_COUNT,
    WRONG_ELEMENTS,
    NO_AXIS,
    ALONG_BATCH,
    WRONG_CLASSES,
    UNEVEN_HEADS,
    WRONG_EXTENTS,
    NOT_AN_IMAGE,
    UNEVEN_GROUPS,
    AXIS_TWICE,
    WRONG_LABELS,
    TOP_IS_ALL,
    SINGLE_VALUE,
    NOT_SQUARE,
    TIED_SHAPE,
    PAD_TOO_LARGE,
    WRONG_OPERANDS,
    NO_CONTRACTION,
    OUTPUT_PAD,
    NOTHING_LEFT,
    WRONG_ORDER,
    NOTHING_TAKEN,
    UNEVEN_PARTS,
    WRONG_MARGINS,
)
