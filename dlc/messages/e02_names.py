"""E02 and W02: messages about names, arguments, imports and the expansion of networks."""

from dlc.diagnostics import Message

UNDEFINED = Message(
    "E0201",
    "`{name}` is not defined in {where}",
    """A name is used that nothing in reach bears.

In a network or block, names are those of its inputs or arguments, of its own statements (in any order), of `repeat … as
i` inside that repeat, and of the parameters of the file and of what it imports. Blocks do not see the names of the
network that uses them. What follows `->` is an operator of the language or a block.""",
)

DEFINED_TWICE = Message(
    "E0202",
    "`{name}` is defined twice",
    """A name is bound once, so that it means one thing wherever it is read.

Inputs, statements and arguments of one network or block share their names; so do the parameters of all imported
files, and the blocks, and so on. A block cannot bear the name of an operator.""",
)

CYCLE = Message(
    "E0203",
    "`{name}` depends on itself: {path}",
    """Statements may stand in any order, but they must have an order in which each one reads only earlier ones.

Structure is static and has no loops: `repeat` stacks copies of a block, and recurrence over time is inside an
operator.""",
)

WRONG_OPERANDS = Message(
    "E0204",
    "`{callee}` takes {needed}, it is given {given}",
    """Operators compute with values of the network: the one that arrives through `->`, and further ones in brackets.

`a -> f(b)` is `f(a, b)`: what arrives through `->` is the first operand. Operands come before all other arguments.""",
)

MISSING_ARGUMENT = Message(
    "E0205",
    "`{callee}` needs an argument `{argument}`",
    """The argument has no default, so it must be given, by its place or by its name: `conv(64, 3x3)` and
`conv(filters = 64, window = 3x3)` say the same. The first argument of a block is what arrives through `->`.""",
)

NO_ARGUMENT = Message(
    "E0206",
    "`{callee}` has no argument `{argument}`",
    """The operator or block has no argument of that name. The message lists those that it has.""",
)

RECURSION = Message(
    "E0208",
    "block `{name}` expands itself",
    """Blocks are expanded before planning, and the expansion must end: a block cannot use itself, neither directly nor
through other blocks. `repeat n { … }` stacks n copies of a block.""",
)

GIVEN_TWICE = Message(
    "E0209",
    "argument `{argument}` of `{callee}` is given twice",
    """An argument is given once, by its place or by its name. What arrives through `->` is the first operand of an
operator and the first argument of a block.""",
)

TOO_MANY_ARGUMENTS = Message(
    "E0210",
    "`{callee}` takes {allowed} in brackets, it is given {given}",
    """There are more arguments without a name than places for them. What arrives through `->` takes the first
place.""",
)

TOO_MANY_OPS = Message(
    "E0211",
    "the network expands to more than {limit:,} ops",
    """Blocks and repeats are expanded before planning, and the expansion is bounded so that it always ends soon. An
iteration of `repeat`, or a block, that holds no op counts as one.""",
)

TOO_DEEP = Message(
    "E0212",
    "{what} nest more than {limit} deep",
    """Expressions and blocks inside blocks may nest as deep as any readable file needs, and no deeper, so that hostile
input cannot exhaust the compiler. Give a part of the expression a name of its own, or join blocks.""",
)

WRONG_KIND = Message(
    "E0213",
    "`{argument}` of `{callee}` is {needed}, not {found}",
    """The argument is given something that it cannot be. The message says what it can be.

A bare word is read by the kind that the argument declares: an axis, one of a few choices, or else the name of a
parameter, of an argument of the block or of a value.""",
)

DIVISION_BY_ZERO = Message(
    "E0214",
    "this divides by zero",
    """The right side of `/` is 0. Where it comes from a parameter, `-P` may have set it.""",
)

OUT_OF_RANGE = Message(
    "E0215",
    "the result of `{operation}` is {found}",
    """Integers are smaller than 2**53 in magnitude, other numbers are finite, and a square root is of a number from 0
up.""",
)

WRONG_CONSTANT = Message(
    "E0216",
    "`{operation}` needs {needed}, not {found}",
    """Arithmetic and order go by plain numbers, `and`, `or`, `not` and `if` by yes and no, `repeat` by an integer from
0 up. Integers divide to an integer where they can: 768 / 12 is 64.""",
)

SAME_ADDRESS = Message(
    "E0217",
    "two ops have the address `{address}`",
    """Every op has an address of its own, by which pins, tables and messages name it.

The name of its statement comes first, then its label or its own name. A label sets two apart:
`x -> conv(64, 3x3) as first -> conv(64, 3x3) as second`.""",
)

SECOND_REPEAT = Message(
    "E0218",
    "a second `repeat` in one statement needs a label",
    """`repeat` adds `[0]`, `[1]`, … to the name of its statement, so two of them in one statement would share their
addresses. Give the second one a label: `repeat n { … } as name`.""",
)

NOT_A_VALUE = Message(
    "E0219",
    "`{callee}` needs a value of the network, not {found}",
    """Operators compute with values: inputs, and what other operators make of them. Numbers, words and windows are
arguments in brackets. `+ - * /` take a value and a number.""",
)

WRONG_INPUT = Message(
    "E0220",
    "input `{name}`: {fault}",
    """An input declares its element type and its axes: `input image: f32[batch, channel = 3, height = 32, width = 32]`.

Its first axis is the batch: `batch` (a parameter of that name gives its extent), `batch = 32`, or a bare `32`. All
other axes have a name and an extent, and no two the same name. Extents are positive integers. All inputs of a network
have the same batch.""",
)

NO_ITEM = Message(
    "E0221",
    "there is no item {index} in {found}",
    """Items of a list count from 0: `blocks[0]` is the first, and a list of four ends with `blocks[3]`.""",
)

MISPLACED = Message(
    "E0222",
    "{where} {fault}",
    """A network declares what it reads (`input`) and what it makes (`output`). A block takes arguments and ends in one
`return`.""",
)

NO_PARAMETER = Message(
    "E0223",
    "there is no parameter `{name}`",
    """`-P name=value` replaces the default of `param name = …`; no parameter of that name is in the file or in what it
imports.""",
)

WRONG_PARAMETER = Message(
    "E0224",
    "parameter `{name}` is {needed}, not {found}",
    """A parameter has the type of its default, and `-P` keeps it: an integer stays an integer, a list of integers a
list of integers of any length. On a command line, quote what the shell would read: `-P 'blocks=[3, 4, 23, 3]'`.""",
)

CANNOT_IMPORT = Message(
    "E0225",
    "cannot import `{path}`: {reason}",
    """An imported path is relative to the file that imports it, and names a file inside the folder of the file that is
compiled. Imports form no circle, and there are at most 100.""",
)

WRONG_TARGETS = Message(
    "E0226",
    "{names} names are bound to {found}",
    """`a, b = …` takes apart what has as many results: an operator with several results, or a block that returns a list
such as `return [a, b]`.""",
)

NO_WEIGHT = Message(
    "E0227",
    "there is no weight `{address}`",
    """A tied weight is named by the address of the op that owns it and its role: `wte.embedding.weight`.

The address begins with a statement of the same block or, if there is none of that name, of the network; that
statement is expanded first, so it cannot depend on the one that borrows its weight.""",
)

NO_CHAIN = Message(
    "E0228",
    "a constant is needed here, this is a chain of operators",
    """Parameters, arguments and settings are numbers, words, windows, lists and what arithmetic makes of them. Chains
(`x -> relu`) and labels (`as name`) make values of the network; they stand in statements of networks and blocks.""",
)

NEEDS_STATEMENT = Message(
    "E0229",
    "`{callee}` computes a value where a constant is needed",
    """Arguments, counts and conditions are constants. They may use the extents of values, `x.channel`, but of values
that have a name: give the result of the operator a statement of its own.""",
)

WORD_READ_AS = Message(
    "W0201",
    "`{name}` is read as {kind}, though there is a parameter of that name",
    """A bare word is read by the kind that its argument declares: in `softmax(axis = width)` it is the axis, whatever
else is named `width`. Rename the parameter if its value was meant.""",
)

UNUSED = Message(
    "W0202",
    "`{name}` is never used in {where}",
    """No other statement reads the name and it is no output, so what it computes is thrown away.""",
)

MESSAGES = (
    UNDEFINED,
    DEFINED_TWICE,
    CYCLE,
    WRONG_OPERANDS,
    MISSING_ARGUMENT,
    NO_ARGUMENT,
    RECURSION,
    GIVEN_TWICE,
    TOO_MANY_ARGUMENTS,
    TOO_MANY_OPS,
    TOO_DEEP,
    WRONG_KIND,
    DIVISION_BY_ZERO,
    OUT_OF_RANGE,
    WRONG_CONSTANT,
    SAME_ADDRESS,
    SECOND_REPEAT,
    NOT_A_VALUE,
    WRONG_INPUT,
    NO_ITEM,
    MISPLACED,
    NO_PARAMETER,
    WRONG_PARAMETER,
    CANNOT_IMPORT,
    WRONG_TARGETS,
    NO_WEIGHT,
    NO_CHAIN,
    NEEDS_STATEMENT,
    WORD_READ_AS,
    UNUSED,
)
