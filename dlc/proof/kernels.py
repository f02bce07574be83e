"""What kernels make of what they read: the passes of ops, sums, conversions, and the sums over ranks inside a pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from dlc.ir import schema
from dlc.ir.graph import Attr, Node
from dlc.ir.mesh import PARTIAL, Placement
from dlc.ir.program import Compute
from dlc.ir.storage import title
from dlc.ops import operator
from dlc.ops.halves import HALVES
from dlc.ops.packing import PACK
from dlc.proof import by_rows, casts, packs
from dlc.proof.forms import LARGEST, Form, declared, place, summed
from dlc.proof.memory import Content, unfit_for_blocks
from dlc.proof.rules import FORWARD, Split, is_image
from dlc.proof.state import At, State
from dlc.proof.terms import ZERO, Terms, added, term

PHASES: Mapping[str, Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "forward": {
        "sums": (("x",), ("sums",)),
        "squares": (("x", "sums"), ("squares",)),
        "apply": (("x", "scale", "shift", "sums", "squares"), ("y", "batch_mean", "batch_rstd")),
    },
    "dx": {
        "grad_sums": (("dy", "x", "batch_mean", "batch_rstd"), ("dy_sums", "dyx_sums")),
        "grad_apply": (
            ("dy", "x", "scale", "batch_mean", "batch_rstd", "dy_sums", "dyx_sums"),
            ("dx", "dscale", "dshift"),
        ),
    },
}
"""Batch norm whose groups span ranks: what each of its kernels reads and gives; tables are summed over the ranks."""

PASSES = (*FORWARD, "dx", "dw", "dt", "statistics")
"""Passes whose kernels give results; all others work in place."""

FREE_ATTRS = ("key", "parts", HALVES)
"""Attributes of parts that change no result: how many runs of samples a kernel goes through, and a random stream's key,
which is compared over all calls."""


NO_ATTRS: Mapping[str, Attr] = {}


def compute(state: State, at: At, made: Compute) -> None:
    """One kernel that changes nothing in place."""
    op, stage, _ = made.kernel
    if stage == PACK:
        packs.pack(state, at, made)
        return
    of, run = OTHERS.get(op, ("", _node))
    (run if of in ("", stage) else _node)(state, at, made)


def _zero(state: State, at: At, made: Compute) -> None:
    for name in (member for bucket in made.outputs for member in state.layout.members(bucket)):
        state.memory.write(name, at.row.slot, Content(ZERO, -1))


def node_of(state: State, made: Compute, address: str = "") -> Node | None:
    """The node that a kernel computes; a fault is noted where there is none."""
    try:
        return state.graph.node(address or made.address)
    except KeyError:
        state.problem("content", made, f"`{made.address}` computes no node of the network")
        return None


def _sum(state: State, at: At, made: Compute) -> None:
    """A sum of what is held alike; zero is held in any form."""
    read = [state.read(at, made, name) for name in made.inputs]
    contents = [content for content in read if content is not None]
    if len(contents) < len(read):
        state.poison(at, made.outputs)
        return
    forms = sorted({content.form for content in contents if content.form >= 0})
    if len(forms) > 1:
        words = ", ".join(
            f"`{name}` is {_shown(state.forms[c.form])}" for name, c in zip(made.inputs, contents, strict=True)
        )
        state.problem("parts", made, f"`{made.address}` adds up what the ranks hold differently: {words}")
        state.poison(at, made.outputs)
        return
    layouts = {buffer.layout for name in made.inputs if is_image((buffer := state.role.buffer(name)).type)}
    if layouts and layouts != {made.layout}:
        state.problem(
            "content", made, f"`{made.address}` works in {made.layout} on what is in {', '.join(sorted(layouts))}"
        )
    types = {state.role.buffer(name).type for name in (*made.inputs, *made.outputs)}
    if len(types) > 1:
        state.problem("bytes", made, f"`{made.address}` adds up buffers of different types")
    content = Content(added(c.terms for c in contents), forms[0] if forms else -1)
    state.write(at, made, made.outputs[0], content, in_place=made.outputs[0] in made.inputs)


def _convert(state: State, at: At, made: Compute) -> None:
    content = state.read(at, made, made.inputs[0])
    if content is None or content.form < 0:
        state.poison(at, made.outputs)
        return
    form, attrs = state.forms[content.form], dict(made.attrs)
    if form.layout != attrs.get("source"):
        state.problem("content", made, f"`{made.address}` takes `{made.inputs[0]}` to be in {attrs.get('source')}")
    if state.role.buffer(made.inputs[0]).type != state.role.buffer(made.outputs[0]).type:
        state.problem("bytes", made, f"`{made.address}` converts `{made.inputs[0]}` into another type")
    target = str(attrs.get("target"))
    fault = unfit_for_blocks(state.role.buffer(made.inputs[0]).type.shape, form.placement, target)
    if fault is not None:
        state.problem("content", made, f"`{made.address}` converts `{made.inputs[0]}`, but {fault}")
    number = state.forms.number(Form(form.placement, target, form.fringes))
    state.write(at, made, made.outputs[0], Content(content.terms, number))


def _cast(state: State, at: At, made: Compute) -> None:
    """Other element types: each buffer into one of the same axes; a weight's copy, in place, into the weight."""
    pairs = (made.inputs[:1], made.inputs[1:]) if made.kernel[1] == "update" else (made.inputs, made.outputs)
    if len(pairs[0]) != len(pairs[1]):
        state.problem("content", made, f"{len(pairs[0])} buffers are cast into {len(pairs[1])}")
    for source, target in zip(*pairs, strict=False):
        content = state.read(at, made, source)
        if not casts.check_pair(state, made, source, target):
            content = None
        state.write(at, made, target, content, in_place=True)  # it may say `parts of a sum`, as its source did


def _totals(state: State, at: At, made: Compute) -> None:
    """Loss and metrics of a microbatch are added to those of an evaluation."""
    graph, (target,) = state.graph, made.outputs
    values = [name for name in (graph.loss, *(value for _, value in graph.metrics)) if name is not None]
    before = state.memory.find(target, at.row.slot)
    terms, forms = [before.content.terms] if before and before.content else [], set[int]()
    said = [state.layout.value(name) for name in made.inputs]
    if said != [value for value in values if value in said] or not said:
        state.problem("content", made, f"`{made.address}` takes {', '.join(said)} for loss and metrics")
    for name, value in zip(made.inputs, said, strict=True):
        content = state.read(at, made, name)
        if content is None or not state.expect(made, name, content, state.meaning.of(value, at.microbatch)):
            state.poison(at, made.outputs)
            return
        terms.append(content.terms)
        forms.add(content.form)
    if len(forms) > 1:
        state.problem("parts", made, f"`{made.address}` adds up what the ranks hold differently")
    state.write(at, made, target, Content(added(terms), max(forms)))


def _node(state: State, at: At, made: Compute) -> None:
    """A pass of an op."""
    node = node_of(state, made)
    if node is None:
        state.poison(at, made.outputs)
    elif node.op == "bn" and made.kernel[1] in PHASES.get(node.stage, {}):
        _phase(state, at, made, node)
    elif node.stage not in PASSES:
        state.problem("content", made, f"`{made.address}` is called where it changes nothing in place")
    else:
        _pass(state, at, made, node)


def _pass(state: State, at: At, made: Compute, node: Node) -> None:
    wanted: str = "forward" if node.stage in FORWARD else node.stage
    if node.op == "bn" and node.stage == "forward" and state.meaning.inference:
        wanted = "inference"
    held = _operands(state, at, made, node.inputs) if _is_call(state, made, node, wanted) else None
    split = None if held is None else _split(state, made, node, held, made.outputs)
    if split is None or not all(packs.holds(state, at, made, name) for name in made.packs):
        state.poison(at, made.outputs)
        return
    tables = made.inputs[len(node.inputs) :]
    for index, name in enumerate(tables):
        _read_table(state, at, made, name, f"{node.address}.sums{index}", split)
    if (id(made), id(split)) not in state.layout.checked:
        state.layout.checked.add((id(made), id(split)))
        _check_rounds(state, made, node, split, len(tables))
        _check_call(state, made, split, split.runtime, by_rows.attributes(state, made, node, split))
        for name, value, form in zip(made.outputs, node.outputs, split.outputs, strict=False):
            state.typed(made, name, value, state.forms[form])
    for name, value, form in zip(made.outputs, node.outputs, split.outputs, strict=False):
        terms = by_rows.results(state, at, made, name, state.meaning.of(value, at.microbatch), form)
        state.write(at, made, name, None if terms is None else Content(terms, form))


def _check_rounds(state: State, made: Compute, node: Node, split: Split, tables: int) -> None:
    """A pass that sums over ranks on its way is given what they have summed."""
    if node.op == "bn" and state.meaning.inference:
        return
    rounds = split.rounds if split.sums else 0
    if tables != rounds or (rounds and node.op == "bn"):
        axes = ", ".join(split.sums) or "nothing"
        state.problem("parts", made, f"`{made.address}` needs {rounds} sums over the ranks along {axes}")


def _is_call(state: State, made: Compute, node: Node, stage: str) -> bool:
    """Whether a kernel is the one of its node, with as many operands and results; looked at once for each call."""
    if (id(made), 0) in state.layout.checked:
        return True
    if not _computes(made.kernel, node.op, stage):
        state.problem("content", made, f"`{made.address}` is computed by the kernel {made.kernel}")
        return False
    outputs = node.outputs[:1] if stage == "inference" else node.outputs
    if len(made.outputs) != len(outputs) or len(made.inputs) < len(node.inputs):
        state.problem("content", made, f"`{made.address}` has not the operands and results of its node")
        return False
    state.layout.checked.add((id(made), 0))
    return True


@lru_cache(maxsize=4096)
def _computes(kernel: tuple[str, str, str], op: str, stage: str) -> bool:
    """Whether a kernel computes a pass of an op, by one of its algorithms."""
    known = operator(op)
    algorithms = ("",) if known is None or not known.algorithms else tuple(a.name for a in known.algorithms)
    return kernel[:2] == (op, stage) and kernel[2] in algorithms


def _operands(state: State, at: At, made: Compute, values: Sequence[str]) -> tuple[int, ...] | None:
    """The forms of the operands of a pass, where each is just the value that the node reads."""
    forms, sound = [], True
    for name, value in zip(made.inputs, values, strict=False):
        content = by_rows.operand(state, at, made, name)
        if content is None:
            sound = False
        elif state.expect(made, name, content, state.meaning.of(value, at.microbatch)):
            forms.append(content.form)
        else:
            sound = False
    return tuple(forms) if sound else None


def _split(state: State, made: Compute, node: Node, held: tuple[int, ...], outputs: Sequence[str]) -> Split | None:
    split = state.rules.split(node, held, tuple(state.placement(name) for name in outputs), made.layout)
    if isinstance(split, str):
        state.problem("parts", made, f"`{made.address}`: {split}")
        return None
    return split


def _check_call(
    state: State, made: Compute, split: Split, runtime: Sequence[str], further: Mapping[str, Attr] = NO_ATTRS
) -> None:
    """Attributes and runtime values of a part, once for each call in the program; some have `further` attributes."""
    call = (id(split), made.kernel[0], made.attrs, made.runtime)
    if call in state.rules.calls:
        return
    known = len(state.found)
    attrs = {name: value for name, value in made.attrs if name not in FREE_ATTRS}
    free = (*FREE_ATTRS, "averaged") if made.kernel[0] == "sums" else FREE_ATTRS  # what is summed are no means
    wanted = {name: value for name, value in {**split.attrs, **further}.items() if name not in free}
    for name in dict.fromkeys((*attrs, *wanted)):
        if attrs.get(name) != wanted.get(name):
            words = f"{attrs.get(name, 'nothing')} in place of {wanted.get(name, 'nothing')}"
            state.problem("content", made, f"`{made.address}` is given {name} = {words}")
    for name in runtime:
        if name not in made.runtime:
            state.problem("content", made, f"`{made.address}` is not told its `{name}`")
    if len(state.found) == known:
        state.rules.calls.add(call)


# --- sums over ranks inside a pass -------------------------------------------------------------------------------


def _phase(state: State, at: At, made: Compute, node: Node) -> None:
    """One kernel of a batch norm whose groups span ranks."""
    needs, gives = PHASES[node.stage][made.kernel[1]]
    known = _values(node)
    reads = [known[role] for role in needs if role in known]
    values = [name for name, role in zip(made.inputs, needs, strict=False) if role in known]
    if len(made.inputs) != len(needs) or len(made.outputs) != len(gives):
        state.problem("content", made, f"`{made.address}` has not the operands and results of its phase")
        state.poison(at, made.outputs)
        return
    held: dict[str, int] = {}
    for name, value in zip(values, reads, strict=True):
        content = state.read(at, made, name)
        if content is None or not state.expect(made, name, content, state.meaning.of(value, at.microbatch)):
            state.poison(at, made.outputs)
            return
        held[value] = content.form
    born = {known[role]: name for role, name in zip(gives, made.outputs, strict=True) if role in known}
    split = state.rules.split(
        node,
        tuple(held.get(value, -1) for value in node.inputs),
        tuple(state.placement(born[value]) if value in born else None for value in node.outputs),
        made.layout,
    )
    if isinstance(split, str):
        state.problem("parts", made, f"`{made.address}`: {split}")
        state.poison(at, made.outputs)
        return
    for role, name in zip(needs, made.inputs, strict=True):
        if role not in known:
            _read_table(state, at, made, name, f"{node.address}.{role}", split)
    _check_call(state, made, split, ("count", "position"))
    for role, name in zip(gives, made.outputs, strict=True):
        if role in known:
            form = split.outputs[node.outputs.index(known[role])]
            state.typed(made, name, known[role], state.forms[form])
            state.write(at, made, name, Content(state.meaning.of(known[role], at.microbatch), form))
        else:
            _write_table(state, at, name, term(f"{node.address}.{role}", at.microbatch), split.tables)


def _values(node: Node) -> dict[str, str]:
    """The values of a batch norm's pass by role; `d` before a role names its gradient."""
    known = operator(node.op)
    assert known is not None
    if node.stage == "forward":
        return schema.roles(known, node) or {}
    gradient = next(each for each in known.gradients if each.suffix == node.stage)
    names = (*gradient.needs, *(f"d{role}" for role in gradient.gives))
    return dict(zip(names, (*node.inputs, *node.outputs), strict=False))


def _table(state: State, at: At, made: Compute) -> None:
    """What ranks sum, or find the largest of, before a kernel can go on."""
    address, _, number = made.address.rpartition(".sums")
    node = node_of(state, made, address or made.address)
    held = None if node is None else _operands(state, at, made, node.inputs)
    if node is None or held is None:
        state.poison(at, made.outputs)
        return
    split = _split(state, made, node, held, ())
    if split is None or not number.isdigit() or made.kernel[1] != node.op:
        state.problem("content", made, f"`{made.address}` is no sum inside a pass")
        state.poison(at, made.outputs)
        return
    for index, name in enumerate(made.inputs[len(node.inputs) :]):
        _read_table(state, at, made, name, f"{node.address}.sums{index}", split)
    _check_call(state, made, split, split.runtime)
    largest = split.largest and int(number) == 0
    tables = tuple(LARGEST if largest and p == PARTIAL else p for p in split.tables)
    _write_table(state, at, made.outputs[0], term(made.address, at.microbatch), tables)


def _write_table(state: State, at: At, name: str, terms: Terms, placement: Placement) -> None:
    state.memory.write(name, at.row.slot, Content(terms, state.forms.number(Form(placement))))


def _read_table(state: State, at: At, made: Compute, name: str, title_: str, split: Split) -> None:
    """A table that a kernel reads is whole: summed over just the ranks that have parts of it."""
    content = state.read(at, made, name)
    if content is None or not state.expect(made, name, content, term(title_, at.microbatch)):
        return
    have, want = state.forms[content.form].placement, summed(split.tables, range(len(split.tables)))
    for axis, x, y in zip(state.mesh.names, have, want, strict=True):
        if x != y:
            sentence = f"`{title(made)}` reads `{name}`, which along `{axis}` is {place(x)} in place of {place(y)}"
            state.problem("parts", made, sentence)


def _shown(form: Form) -> str:
    return ", ".join(map(place, declared(form.placement))) or "whole"


OTHERS: Mapping[str, tuple[str, Callable[[State, At, Compute], None]]] = {
    "zero": ("forward", _zero),
    "sum": ("sum", _sum),
    "convert": ("forward", _convert),
    "cast": ("", _cast),
    "totals": ("forward", _totals),
    "sums": ("", _table),
}
"""Kernels that compute no node of the graph, by op: their pass, "" for any, and what they do."""
