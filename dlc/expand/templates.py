"""Expansions that differ in nothing but their place are made once, and copied after that.

A block reads nothing but its arguments and the parameters, so two uses with like arguments (equal constants, values of
equal types) make the same ops under different addresses. The same holds for the iterations of a repeat that does not
count. A deep network is hundreds of such copies, and a copy costs a fraction of an expansion.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dlc.expand.count import MOST_OPS
from dlc.expand.evaluate import UNKNOWN, Entity, Tensor
from dlc.expand.nodes import Nodes
from dlc.ir.graph import Node, Value


@dataclass(frozen=True, slots=True)
class Template:
    """What one expansion below `prefix` made of the values `given`: nodes, values, blocks, and what it stands for."""

    prefix: str
    given: tuple[str, ...]
    nodes: tuple[Node, ...]
    values: tuple[Value, ...]
    blocks: tuple[tuple[str, str], ...]
    result: Entity

    @property
    def is_closed(self) -> bool:
        """Whether it reads what it was given and what it made, and borrows no weight: those go by their addresses."""
        owners = {value.name: value.owner for value in self.values} | dict.fromkeys(self.given)
        reads = ((name, node.address) for node in self.nodes for name in node.inputs)
        inside = all(name in owners and owners[name] in (None, reader) for name, reader in reads)
        return inside and all(tensor.name in owners for tensor in _tensors(self.result))


class Templates:
    """Expands into `nodes`, by copying where the like was expanded before."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.known: dict[Hashable, Template] = {}

    def expand(self, what: Hashable, given: Sequence[Entity], prefix: str, make: Callable[[], Entity]) -> Entity:
        """What `make` expands below `prefix`; it depends on `what` and on what is given alone.

        An expansion with messages is never copied, so each of its copies reports its own.
        """
        places: dict[str, int] = {}
        key = (what, *(_likeness(entity, places) for entity in given))
        if key in self.known:
            copied = self._copy(self.known[key], prefix, tuple(places))
            if copied is not UNKNOWN:
                return copied
        before, messages = self.nodes.count, self.nodes.messages
        result = make()
        if result is not UNKNOWN and self.nodes.messages == messages:
            template = Template(prefix, tuple(places), *self.nodes.since(before), result)
            if template.is_closed:
                self.known[key] = template
        return result

    def _copy(self, template: Template, prefix: str, given: Sequence[str]) -> Entity:
        """The template below another prefix; UNKNOWN where that needs a message: a name is taken, there are too many
        ops.
        """
        cut, nodes = len(template.prefix), self.nodes
        names = {value.name: prefix + value.name[cut:] for value in template.values}
        if len(nodes.nodes) + len(template.nodes) > MOST_OPS or not nodes.values.keys().isdisjoint(names.values()):
            return UNKNOWN
        for value in template.values:
            name = names[value.name]
            owner = None if value.owner is None else prefix + value.owner[cut:]
            nodes.values[name] = Value(name, value.type, value.kind, value.init, owner)
        nodes.blocks.update((prefix + address[cut:], block) for address, block in template.blocks)
        names.update(zip(template.given, given, strict=True))
        for node in template.nodes:
            address = prefix + node.address[cut:]
            inputs, outputs = ([names[name] for name in side] for side in (node.inputs, node.outputs))
            copy = Node(address, node.op, node.stage, tuple(inputs), tuple(outputs), node.attrs, node.span)
            nodes.append(copy)
        return _renamed(template.result, names)


def _likeness(entity: Entity, places: dict[str, int]) -> Hashable:
    """Equal for entities that make no difference to an expansion; values are numbered in `places` by their names."""
    match entity:
        case Tensor(name, type_):
            return (places.setdefault(name, len(places)), type_)
        case tuple():
            return tuple(_likeness(item, places) for item in entity)
        case float():
            return entity.hex()  # 0.0 and -0.0 are equal
    return (type(entity), entity)


def _tensors(entity: Entity) -> Iterator[Tensor]:
    if isinstance(entity, Tensor):
        yield entity
    elif isinstance(entity, tuple):
        for item in entity:
            yield from _tensors(item)


def _renamed(entity: Entity, names: Mapping[str, str]) -> Entity:
    if isinstance(entity, Tensor):
        return Tensor(names[entity.name], entity.type)
    return tuple(_renamed(item, names) for item in entity) if isinstance(entity, tuple) else entity
