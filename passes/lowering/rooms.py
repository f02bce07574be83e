"""What kernels in C work in takes the place of what NumPy's would need: one array of bytes a call, or none."""

from __future__ import annotations

from dataclasses import replace

from dlc.ir.plan import Plan
from dlc.ir.program import Buffer, Compute, Instruction, Program, Role
from dlc.ir.storage import Storage, local
from dlc.ir.tensor import tensor
from dlc.ops import operator
from dlc.ops.fusion import main_of
from dlc.ops.operator import Shapes, Workspace
from passes.context import Context

ROOM = ".room"
"""How the names of these arrays end."""


def with_rooms(program: Program, plan: Plan, context: Context) -> Program:
    """The program as its kernels in C need it; as it is where they are NumPy's."""
    if plan.kernels != "c" or context.room is None or context.exact:
        return program
    return replace(program, roles=tuple(_role(role, program.dtype, plan.threads, context) for role in program.roles))


def _role(role: Role, dtype: str, threads: int, context: Context) -> Role:
    assert context.room is not None
    rooms: dict[str, Buffer] = {}
    dropped: set[str] = set()

    def changed(made: Instruction) -> Instruction:
        size = context.room(made, role, dtype, threads) if isinstance(made, Compute) and context.room else None
        if size is None or not isinstance(made, Compute):
            return made
        dropped.update(made.workspaces)
        if not size:
            return replace(made, workspaces=())
        name = f"{made.outputs[0]}.{made.kernel[1]}{ROOM}"
        rooms[name] = Buffer(name, tensor("u8", byte=size), "workspace")
        return replace(made, workspaces=(name,))

    segments = tuple(replace(each, instructions=tuple(map(changed, each.instructions))) for each in role.segments)
    made = (each for segment in segments for each in segment.instructions if isinstance(each, Compute))
    unused = dropped.difference(name for each in made for name in each.workspaces)
    kept = (buffer for buffer in role.buffers if buffer.name not in unused)
    return replace(role, segments=segments, buffers=(*kept, *rooms.values()))


def of_numpy(made: Compute, role: Role) -> tuple[Workspace, ...]:
    """What NumPy's kernel for a call works in; a fused one as the member that it is named after."""
    made = main_of(made)
    op, stage, name = made.kernel
    known = operator(op)
    algorithm = next((each for each in known.algorithms if each.name == name), None) if known else None
    if algorithm is None:
        return ()
    cut = Storage(role, 0).microbatches
    inputs, outputs = (
        tuple(local(role, role.buffer(name), role.largest_shard, cut) for name in names)
        for names in (made.inputs, made.outputs)
    )
    shapes = Shapes(inputs, outputs, dict(made.attrs))
    return algorithm.workspaces(stage, shapes, made.layout)
