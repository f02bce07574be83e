"""One textual form of Graph, Plan and Program: a line for each value, node, decision, buffer and instruction.

`from_text(to_text(x)) == x` for each of them. A form says how a line is written and read: its fixed words and signs,
and the fields between them; all other fields follow as `name = value` where they differ from their defaults, in a block
of `{` and `}` on lines of their own.

    node c1.conv: [c1.conv] = conv forward [image, c1.conv.weight, c1.conv.bias] attrs = {filters = 6, …}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dlc.ir.graph import Graph, Node, Value
from dlc.ir.plan import Alternative, Bucket, OpPlan, Plan
from dlc.ir.program import (
    Buffer,
    Collective,
    CommunicationGroup,
    Compute,
    Copy,
    Entry,
    Load,
    Program,
    Receive,
    Role,
    Row,
    Segment,
    Send,
    Wait,
)
from dlc.ir.text_values import Scanner, TextError, build, is_default, write, written_fields


@dataclass(frozen=True, slots=True)
class Form:
    """How a dataclass is written: a template whose first word is its name, `{field}` standing for a field.

    `children` says what has lines of its own in a block, and which field it belongs to.
    """

    of: type[Any]
    template: str
    children: Mapping[type[Any], str] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """What its lines begin with."""
        return self.template.split()[0]

    @property
    def parts(self) -> tuple[str, ...]:
        """Words, signs and `{field}`s of the template, in order."""
        return tuple(re.findall(r"\{\w+\}|\w+|[:=]", self.template))

    @property
    def inline(self) -> tuple[str, ...]:
        """The fields in the template."""
        return tuple(part[1:-1] for part in self.parts if part[0] == "{")

    @property
    def blocks(self) -> tuple[str, ...]:
        """The fields whose items have lines of their own."""
        return tuple(dict.fromkeys(self.children.values()))


INSTRUCTIONS = (Compute, Load, Collective, Send, Receive, Wait, Copy)

FORMS = (
    Form(Graph, "graph {name}", {Value: "values", Node: "nodes"}),
    Form(Value, "value {name}: {type} {kind}"),
    Form(Node, "node {address}: {outputs} = {op} {stage} {inputs}"),
    Form(Plan, "plan {network} on {cluster}", {OpPlan: "ops", Bucket: "buckets", Alternative: "baselines"}),
    Form(OpPlan, "op {address}: {layout}"),
    Form(Bucket, "bucket {name}: {algorithm} over {group}"),
    Form(Alternative, "alternative {description} at {objective}"),
    Form(Program, "program {name}", {CommunicationGroup: "groups", Role: "roles"}),
    Form(CommunicationGroup, "group {name}: {members}"),
    Form(Role, "role {name}", {Buffer: "buffers", Segment: "segments", Entry: "entries"}),
    Form(Buffer, "buffer {name}: {type} {kind}"),
    Form(Segment, "segment {name}", dict.fromkeys(INSTRUCTIONS, "instructions")),
    Form(Compute, "compute {address}: {outputs} = {kernel} {inputs}"),
    Form(Load, "load {buffers}"),
    Form(Collective, "collective {name}: {kind} {buffer} over {group} by {algorithm}"),
    Form(Send, "send {name}: {buffer} along {group} to {peer}"),
    Form(Receive, "receive {name}: {buffer} along {group} from {peer}"),
    Form(Wait, "wait {name}"),
    Form(Copy, "copy {source} to {target}"),
    Form(Entry, "entry {name}", {Row: "schedule"}),
    Form(Row, "run {segment}"),
)
"""One form a dataclass."""

_BY_TYPE = {form.of: form for form in FORMS}
_BY_WORD = {form.word: form for form in FORMS}


def to_text(ir: Graph | Plan | Program, spans: bool = False) -> str:
    """The text of a graph, plan or program; with `spans`, where in the spec each node stands."""
    return "\n".join(_lines(ir, spans, "")) + "\n"


def from_text(text: str) -> Graph | Plan | Program:
    """The graph, plan or program that a text holds; TextError, with the line, where it holds none."""
    lines = list(_scanners(text))
    if not lines:
        raise TextError(1, "expected a graph, a plan or a program, found nothing")
    reader = _Reader(lines)
    found = reader.item((Graph, Plan, Program))
    if reader.left:
        raise TextError(reader.next.number, "expected the end of the text")
    assert isinstance(found, Graph | Plan | Program)
    return found


def _lines(item: object, spans: bool, margin: str) -> Iterator[str]:
    """The lines of one item and of its block."""
    form = _BY_TYPE[type(item)]
    head = margin + _head(form, item, spans)
    rest = [
        f"{each.name} = {write(getattr(item, each.name), spans)}"
        for each in written_fields(form.of, spans)
        if each.name not in (*form.inline, *form.blocks) and not is_default(each, getattr(item, each.name))
    ]
    if not form.children:
        yield " ".join((head, *rest))
        return
    yield f"{head} {{"
    yield from (f"{margin}  {part}" for part in rest)
    for name in form.blocks:
        for child in getattr(item, name):
            yield from _lines(child, spans, margin + "  ")
    yield f"{margin}}}"


def _head(form: Form, item: object, spans: bool) -> str:
    """The filled template; a colon stands close to what is before it."""
    filled = ""
    for part in form.parts:
        text = write(getattr(item, part[1:-1]), spans) if part[0] == "{" else part
        filled += text if part == ":" or not filled else f" {text}"
    return filled


def _scanners(text: str) -> Iterator[Scanner]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield Scanner(line, number)


class _Reader:
    """Reads items line by line."""

    def __init__(self, lines: list[Scanner]) -> None:
        self._lines = lines
        self._at = 0

    @property
    def left(self) -> bool:
        """Whether lines are left."""
        return self._at < len(self._lines)

    @property
    def next(self) -> Scanner:
        """The line at hand; TextError at the end of the text."""
        if not self.left:
            raise TextError(self._lines[-1].number, "expected `}`, found the end of the text")
        return self._lines[self._at]

    def item(self, allowed: tuple[type[Any], ...]) -> object:
        """One item of an allowed type, with its block."""
        line = self.next
        form = _BY_WORD.get(line.next.text)
        if form is None or form.of not in allowed:
            raise line.fail(" or ".join(f"`{_BY_TYPE[type_].word}`" for type_ in allowed))
        self._at += 1
        given = _read_head(form, line)
        if form.children:
            line.expect("{")
            _require_end(line)
            self._block(form, given)
        else:
            while line.next.kind != "end":
                _read_field(form, line, given)
        return build(form.of, given, line.number)

    def _block(self, form: Form, given: dict[str, Any]) -> None:
        """Fields, then children, until the closing brace."""
        children: dict[str, list[object]] = {name: [] for name in form.blocks}
        while not self.next.accept("}"):
            line = self.next
            child = _BY_WORD.get(line.next.text)
            if child is not None and child.of in form.children:
                children[form.children[child.of]].append(self.item(tuple(form.children)))
                continue
            _read_field(form, line, given)
            _require_end(line)
            self._at += 1
        _require_end(self.next)
        self._at += 1
        given.update((name, tuple(items)) for name, items in children.items())


def _read_head(form: Form, line: Scanner) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for part in form.parts:
        if part[0] == "{":
            given[part[1:-1]] = line.value()
        else:
            line.expect(part)
    return given


def _read_field(form: Form, line: Scanner, given: dict[str, Any]) -> None:
    key = line.key()
    if key in given or key in form.blocks:
        raise TextError(line.number, f"`{key}` is given twice or in another way")
    given[key] = line.value()


def _require_end(line: Scanner) -> None:
    if line.next.kind != "end":
        raise line.fail("the end of the line")
