"""What changes in place at the end of a step: gradients are scaled, regularised and clipped, weights updated.

Each of them must see gradients that are the sum of their parts over all microbatches and all ranks, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

from dlc.ir.graph import Graph, Node
from dlc.ir.mesh import PARTIAL, REPLICATED, Placement
from dlc.ir.program import Compute, Program
from dlc.ir.storage import title
from dlc.ops import operator
from dlc.proof.casts import has_casts
from dlc.proof.forms import Form, place
from dlc.proof.memory import Content
from dlc.proof.state import At, Changes, State
from dlc.proof.terms import Terms, added, after, term

STAGES = ("unscale", "regularise", "clip", "update")
"""Passes that work in place, in this order."""

OVER_ALL = ("unscale", "clip")
"""Those that go by all gradients of a step together."""

CAST = ("cast", "update", "")
"""A weight is made of its copy in f32."""

SKIPPED = "update"
"""The segment that all ranks leave out of a step where any gradient on any rank is not finite."""

BY_NORMS = ("lars", "lamb")
"""Update rules by norms of whole tensors."""


def changes_of(program: Program, graph: Graph) -> Changes:
    """What changes in place in a step. A program that casts copies of weights to them changes the copies alone."""
    nodes = [node for stage in STAGES for node in graph.nodes if node.stage == stage]
    found: dict[str, list[Node]] = {}
    for node in nodes:
        for name in changed(graph, node):
            found.setdefault(name, []).append(node)
    values = {name: tuple(nodes) for name, nodes in found.items()}
    made = (made for role in program.roles for segment in role.segments for made in segment.instructions)
    cast = any(isinstance(each, Compute) and each.kernel == CAST for each in made)
    copies = {f"{weight.name}@master": weight.name for weight in graph.of_kind("weight")} if cast else {}
    masters = {name: weight for name, weight in copies.items() if graph.has_value(name)}
    by_address, scaled = {node.address: node for node in nodes}, any(node.stage == "unscale" for node in nodes)
    return Changes(values, by_address, frozenset(n.op for n in nodes), masters, has_casts(program), scaled)


def changed(graph: Graph, node: Node) -> tuple[str, ...]:
    """The values that a node changes in place: gradients, or weights, statistics and states; a loss scale, too."""
    if node.stage == "unscale":
        return node.inputs
    gradients = node.stage != "update"
    return tuple(name for name in node.inputs if (graph.value(name).kind == "gradient") == gradients)


def before(state: State, name: str, node: Node | None) -> Terms:
    """What a value is when a node reads it that changes things in place; None asks for what is left at the end."""
    name = state.weight(name)
    stages = STAGES if node is None else STAGES[: STAGES.index(node.stage)]
    done = [step for step in state.changes.values.get(name, ()) if step.stage in stages]
    if done:
        return after(done[-1].address, name)
    if state.graph.value(name).kind == "gradient":
        return state.meaning.total(name, state.microbatches)
    return term(name)


def update(state: State, at: At, made: Compute, node: Node) -> None:
    """A kernel that works in place."""
    if made.kernel != (node.op, node.stage, "") or made.outputs:
        state.problem("content", made, f"`{made.address}` is computed by the kernel {made.kernel}")
        return
    _check_skipped(state, at, made, node)
    if node.stage in OVER_ALL:
        _clip(state, at, made, node)
        return
    values, tables = _operands(state, made, node)
    if not _complete(state, made, node, values):
        state.poison(at, made.inputs)
        return
    contents = _read(state, at, made, node, values)
    if contents is None:
        state.poison(at, made.inputs)
        return
    _check_alike(state, made, node, values, contents)
    _check_norms(state, at, made, node, contents, tables)
    _check_call(state, made, node)
    _change(state, at, made, node, values, contents)


def _check_skipped(state: State, at: At, made: Compute, node: Node) -> None:
    """Where the loss is scaled, a step is skipped by leaving out the segment `update`, once `unscale` has found out."""
    if state.changes.scaled and node.stage in ("unscale", "update"):
        inside = at.row.segment == SKIPPED
        if inside != (node.stage == "update"):
            where = "in" if inside else "outside"
            sentence = f"`{made.address}` is {where} `{SKIPPED}`, which is left out where gradients are not finite"
            state.problem("content", made, sentence)


def _operands(state: State, made: Compute, node: Node) -> tuple[dict[str, str], tuple[str, ...]]:
    """Buffer -> value of what a kernel reads, and its tables. Where weights have copies in f32, it sees these alone."""
    copies = {weight: copy for copy, weight in state.changes.masters.items() if weight in node.inputs}
    values = tuple(dict.fromkeys(copies.get(name, name) for name in node.inputs))
    if node.stage == "regularise":
        return {name: value for name in made.inputs if (value := state.layout.value(name)) in values}, ()
    return dict(zip(made.inputs, values, strict=False)), made.inputs[len(values) :]


def _complete(state: State, made: Compute, node: Node, values: dict[str, str]) -> bool:
    """Whether a kernel has the operands of its node, and a regulariser weights of its role with their gradients: each
    weight goes by itself, and is left as it was only in a role that does not update it."""
    if node.stage == "regularise":
        weights = [state.weight(value) for value in values.values() if not _is_gradient(state, value)]
        sound = [*weights, *(f"{name}@grad" for name in weights)] == [state.weight(v) for v in values.values()]
        sound, words = sound and len(values) == len(made.inputs), "its gradients are not those of its weights, in order"
    else:
        sound = len(values) == len({state.weight(name) for name in node.inputs})
        words = "rules see all that they join"
    if not sound:
        state.problem("content", made, f"`{made.address}` has not the operands of its node: {words}")
    return sound


def _read(state: State, at: At, made: Compute, node: Node, values: dict[str, str]) -> dict[str, Content] | None:
    contents: dict[str, Content] = {}
    for name, value in values.items():
        content = state.read(at, made, name)
        if content is None or not state.expect(made, name, content, before(state, value, node)):
            return None
        sums = [
            axis for axis, p in zip(state.mesh.names, state.forms[content.form].placement, strict=True) if p == PARTIAL
        ]
        if sums:
            words = f"whose parts along `{', '.join(sums)}` are not summed"
            state.problem("unsummed", made, f"`{title(made)}` reads `{name}`, {words}")
            return None
        contents[value] = content
    return contents


def _check_alike(state: State, made: Compute, node: Node, values: dict[str, str], contents: dict[str, Content]) -> None:
    """A weight, its gradient and its states are held alike; a rule for all weights at once sees all of each."""
    placements = {value: state.forms[content.form].placement for value, content in contents.items()}
    joint = len([name for name in node.inputs if state.graph.value(name).kind == "weight"]) > 1
    if node.stage == "update" and joint:
        if any(at != REPLICATED for p in placements.values() for at in p):
            state.problem("parts", made, f"`{made.address}` is to see all weights whole, at once")
        return
    gradients = [name for name in placements if state.graph.value(name).kind == "gradient"]
    for name, placement in placements.items():
        owner = name if name in gradients else _gradient(state, node, name, gradients)
        if owner is not None and placements[owner] != placement:
            words = f"`{owner}` is {_listed(placements[owner])}, `{name}` is {_listed(placement)}"
            state.problem("parts", made, f"`{made.address}` works on different parts: {words}")


def _gradient(state: State, node: Node, name: str, gradients: Sequence[str]) -> str | None:
    """The gradient that goes with a weight or state of a node; of running averages, the sums."""
    if node.stage == "update":
        return gradients[0] if gradients else None
    found = f"{state.weight(name)}@grad"
    return found if found in gradients else None


def _check_norms(
    state: State, at: At, made: Compute, node: Node, contents: dict[str, Content], tables: Sequence[str]
) -> None:
    """The norms of a tensor that ranks hold parts of are sums over these."""
    placement = next((state.forms[content.form].placement for content in contents.values()), ())
    if node.op not in BY_NORMS or all(p == REPLICATED for p in placement):
        if tables:
            state.problem("content", made, f"`{made.address}` is given {', '.join(tables)} for nothing")
        return
    if len(tables) != 1:
        state.problem("unsummed", made, f"`{made.address}` needs the norms of whole tensors, of which ranks hold parts")
        return
    _read_whole(state, at, made, tables[0], term(f"{node.address}.squares"))


def _read_whole(state: State, at: At, made: Compute, name: str, wanted: Terms) -> None:
    content = state.read(at, made, name)
    if content is None or not state.expect(made, name, content, wanted):
        return
    for axis, p in zip(state.mesh.names, state.forms[content.form].placement, strict=True):
        if p != REPLICATED:
            sentence = f"`{title(made)}` reads `{name}`, which along `{axis}` is {place(p)}"
            state.problem("unsummed", made, sentence)


def _check_attrs(state: State, made: Compute, node: Node) -> None:
    if {name: value for name, value in made.attrs if name != "copies"} != dict(node.attrs):
        state.problem("content", made, f"`{made.address}` is given other attributes than its node has")


def _check_call(state: State, made: Compute, node: Node) -> None:
    known = operator(node.op)
    _check_attrs(state, made, node)
    wanted = known.runtime if known is not None and known.role == "optimizer" else ()
    for name in wanted:
        if name not in made.runtime:
            state.problem("content", made, f"`{made.address}` is not told its `{name}`")


def _change(
    state: State, at: At, made: Compute, node: Node, values: dict[str, str], contents: dict[str, Content]
) -> None:
    mine = set(changed(state.graph, node))
    for name, value in values.items():
        if value in mine:
            content = Content(after(node.address, state.weight(value)), contents[value].form)
            state.write(at, made, name, content, in_place=True)


# --- norms of all gradients --------------------------------------------------------------------------------------


def _clip(state: State, at: At, made: Compute, node: Node) -> None:
    """Each gradient by itself, or all by the norm of all of them, or by what is found in any of them."""
    attrs = dict(made.attrs)
    values = {name: state.layout.value(name) for name in made.inputs if state.layout.value(name) in node.inputs}
    tables = tuple(name for name in made.inputs if name not in values)
    contents = _read(state, at, made, node, values)
    if contents is None:
        state.poison(at, made.inputs)
        return
    _check_call(state, made, node)
    if "copies" in attrs:
        _check_copies(state, made, [state.forms[contents[v].form] for v in values.values() if _is_gradient(state, v)])
        if len(tables) != 1:
            state.problem("content", made, f"`{made.address}` is given {len(tables)} sums of squares")
        else:
            _read_whole(state, at, made, tables[0], added(_squared(state, node.inputs)))
    elif node.stage != "clip" or node.attr("kind") != "value":
        split = any(p != REPLICATED for c in contents.values() for p in state.forms[c.form].placement)
        if split or len(values) < len(node.inputs):
            state.problem("unsummed", made, f"`{made.address}` needs the norm of all gradients, of which it has a part")
    _change(state, at, made, node, values, contents)


def squares(state: State, at: At, made: Compute) -> None:
    """The squares behind norms: of all gradients, or of one weight, its gradient and its states."""
    found = next((n for n in state.graph.nodes if n.stage in STAGES and n.op == made.kernel[1]), None)
    if made.kernel[1] not in OVER_ALL:
        found = next((n for n in state.graph.nodes if f"{n.address}.squares" == made.address), found)
    if found is None:
        state.problem("content", made, f"`{made.address}` belongs to no update")
        state.poison(at, made.outputs)
        return
    values = dict(zip(made.inputs, found.inputs, strict=False))
    if found.stage in OVER_ALL:
        values = {name: state.layout.value(name) for name in made.inputs}
    contents = _read(state, at, made, found, values)
    if contents is None:
        state.poison(at, made.outputs)
        return
    _check_attrs(state, made, found)
    forms = [state.forms[content.form] for content in contents.values()]
    if found.stage in OVER_ALL:
        _check_copies(state, made, forms)
        terms = added(_squared(state, values.values()))
        placement: Placement = tuple(PARTIAL for _ in state.mesh.names)
    else:
        _check_alike(state, made, found, values, contents)
        terms = term(made.address)
        placement = tuple(REPLICATED if p == REPLICATED else PARTIAL for p in forms[0].placement)
    state.memory.write(made.outputs[0], at.row.slot, Content(terms, state.forms.number(Form(placement))))


def _squared(state: State, names: Iterable[str]) -> Iterator[Terms]:
    """What stands for the sum over the elements of each gradient among these values."""
    return (term(f"{name} squared") for name in names if _is_gradient(state, name))


def _is_gradient(state: State, name: str) -> bool:
    return state.graph.value(name).kind == "gradient"


def _check_copies(state: State, made: Compute, forms: Sequence[Form]) -> None:
    """Where ranks hold the same, each counts its share."""
    extents = state.mesh.extents
    wanted = tuple(prod(n for n, p in zip(extents, form.placement, strict=True) if p == REPLICATED) for form in forms)
    said = dict(made.attrs).get("copies")
    if said != wanted:
        state.problem("parts", made, f"`{made.address}` counts gradients as held {said} times, which are {wanted}")


def _listed(placement: Placement) -> str:
    return ", ".join(map(place, placement)) or "whole"
