"""E01: messages about the text of a file, before any name in it has a meaning."""

from dlc.diagnostics import Message

UNEXPECTED = Message(
    "E0101",
    "expected {expected}, found {found}",
    """The text cannot go on like this. The message lists what may stand here.

Newlines separate statements, settings and plan rules; between settings and between plan rules a comma or a semicolon
may stand for the newline. A line goes on where the next one begins with `->`, `then`, `else`, `and`, `or`, `as`,
`where`, `}` or an operator, inside ( ) and [ ], and after a token that cannot end a statement:

    main = x -> conv(64, 3x3)
             -> relu

After a mistake reading goes on at the next item that begins in column 1, so several mistakes are shown at once.""",
)

UNCLOSED = Message(
    "E0102",
    "`{bracket}` is never closed",
    """A bracket has no partner. The message points at the opening bracket, and at the place where the text could not go
on. Where `}` stands at the beginning of a line, its indentation tells which `{` it is meant for.""",
)

NOT_AN_ITEM = Message(
    "E0103",
    "`{word}` begins no item",
    """A file is a list of items: import, param, block, network, device, link, cluster, train and plan. Each begins with
one of these words. Statements such as `c1 = image -> relu` stand inside a network or a block.""",
)

NO_VERSION = Message(
    "E0104",
    "the first line is `dlspec 1`, here it is missing",
    """A file says which version of the language it is written in, so that it means the same to later compilers. The
line `dlspec 1` comes first; only blank lines and comments may stand before it.""",
)

UNKNOWN_UNIT = Message(
    "E0105",
    "`{unit}` is not a unit",
    """A word right behind a number is its unit. The units are

    sizes          B, KiB, MiB, GiB, TiB (powers of 1024), KB, MB, GB, TB (powers of 1000)
    rates          B/s, KB/s, MB/s, GB/s, TB/s, bit/s, Kbit/s, Mbit/s, Gbit/s, Tbit/s
    times          ns, us, ms, s
    compute rates  FLOP/s, KFLOP/s, MFLOP/s, GFLOP/s, TFLOP/s, PFLOP/s
    counts         epoch, epochs, step, steps

If the word was not meant as a unit, an operator or a comma is missing between the two.""",
)

FOREIGN_CHARACTER = Message(
    "E0106",
    "`{character}` ({name}) stands outside texts and comments",
    """Outside texts in quotes and comments a file is plain ASCII: letters a to z, digits and signs. So two names that
look alike are alike, and what is read is what is seen. Text copied from a document often brings typographic quotes,
dashes or arrows along.""",
)

CONTROL_CHARACTER = Message(
    "E0107",
    "the control character {name} may not stand in a file",
    """Newline, carriage return right before a newline, and tab are the only control characters of a file. Others, and
those that change the direction of text, can hide what a line says: a carriage return alone makes a terminal overwrite
the line.""",
)

UNTERMINATED_TEXT = Message(
    "E0108",
    "the text that begins here does not end on its line",
    """A text stands between two double quotes on one line. It holds no escapes, so it cannot hold a double quote.""",
)

TOO_DEEP = Message(
    "E0109",
    "{what} nest more than {limit} deep",
    """Brackets nest at most 100 deep, and so do operators, calls and `if` inside each other: `a + b + c` is two deep.
The bound keeps every reader of the language safe from running out of stack. Give a part of it a name.""",
)

NUMBER_TOO_LARGE = Message(
    "E0110",
    "`{number}` is {fault}",
    """Integers, and sizes in bytes, are below 2^53 = 9,007,199,254,740,992, so that they are exact everywhere, in JSON
and in float64 too. Other numbers are within the range of float64, about 2.2e-308 to 1.8e308.""",
)

RESERVED_WORD = Message(
    "E0111",
    "expected {expected}, found the reserved word `{word}`",
    """The words `if then else and or not as where` are reserved everywhere and name nothing. `input`, `output` and
`return` begin no other statement. All other words of the language may be names, where they cannot be mistaken.""",
)

UNREADABLE = Message(
    "E0112",
    "`{path}` cannot be read: {reason}",
    """The file does not exist, may not be read, or is not a regular file. Folders, devices and pipes are not read.""",
)

FILE_TOO_LARGE = Message(
    "E0113",
    "`{path}` has more than {limit}",
    """A file has at most 1 MiB (1,048,576 bytes) and 65,536 words, numbers and signs, so that reading it takes a second
at most. A larger network is written with `block` and `repeat`; a file may import others.""",
)

NOT_UTF8 = Message(
    "E0114",
    "the byte 0x{byte:02x} is not UTF-8",
    """Files are UTF-8. An editor may have written this one in another encoding, such as Latin-1 or UTF-16; save it as
UTF-8.""",
)

LABEL_WITHOUT_CALL = Message(
    "E0115",
    "`as {name}` labels no call",
    """`as` gives a name to what stands right before it: a link of a chain (`x -> conv(64, 3x3) as first -> relu`) or a
call that heads a chain (`concat(a, b) as both -> relu`). An operator such as `+` has the name of its statement; give
the value a statement of its own.""",
)

SECOND_TOPOLOGY = Message(
    "E0116",
    "cluster `{cluster}` has a second topology",
    """A cluster has one `topology`. A machine whose parts differ has several groups inside it:

    topology {
      node[2] over ethernet {
        fast[4] over nvlink
        slow[2] over pcie
      }
    }""",
)

UNKNOWN_VERSION = Message(
    "E0117",
    "version {version} of the language is not known",
    """The first line names the version that the file is written in. A later compiler may know later versions.""",
)

MESSAGES = (
    UNEXPECTED,
    UNCLOSED,
    NOT_AN_ITEM,
    NO_VERSION,
    UNKNOWN_UNIT,
    FOREIGN_CHARACTER,
    CONTROL_CHARACTER,
    UNTERMINATED_TEXT,
    TOO_DEEP,
    NUMBER_TOO_LARGE,
    RESERVED_WORD,
    UNREADABLE,
    FILE_TOO_LARGE,
    NOT_UTF8,
    LABEL_WITHOUT_CALL,
    SECOND_TOPOLOGY,
    UNKNOWN_VERSION,
)
