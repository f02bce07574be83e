"""The faults that are planted, by kind: each is a function that yields every Program that has this fault somewhere.

All of them are faults: what is planted changes what some rank computes, sends or waits for, or which memory it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dlc.ir.program import Program
from tests.mutation.buffers import (
    hasty_takeover,
    outside_its_bucket,
    same_samples,
    shared_bytes,
    turned_mesh,
    unfit_takeover,
    wrong_outputs,
    wrong_shard,
    wrong_type,
)
from tests.mutation.casts import (
    dropped_cast,
    early_cast,
    narrow_copy,
    narrow_kernel,
    narrow_sum,
    not_skipped,
    reversed_cast,
    stale_weights,
    updated_copy,
    wrong_cast,
    wrong_scale,
)
from tests.mutation.collectives import (
    doubled_collective,
    dropped_collective,
    early_collective,
    early_wait,
    exchanged_ranks,
    halo_axis,
    halo_direction,
    halo_rows,
    hasty_window,
    largest_or_sum,
    late_collective,
    merged_groups,
    missing_wait,
    narrow_window,
    never_waited,
    split_group,
    wrong_algorithm,
    wrong_bytes,
    wrong_group,
    wrong_kind,
    wrong_rows,
    wrong_source,
    wrong_target,
)
from tests.mutation.editing import Edit, spread
from tests.mutation.fused import left_apart, read_between, updated_twice, wrong_member
from tests.mutation.kernels import (
    added_everywhere,
    doubled_sum,
    doubled_update,
    dropped_kernel,
    early_kernel,
    left_unregularised,
    not_told,
    part_left_out,
    scaled_twice,
    swapped_operands,
    wrong_attribute,
    wrong_layout,
    wrong_operand,
    wrong_pass,
    wrong_result,
    wrong_state,
)
from tests.mutation.order import (
    doubled_message,
    doubled_row,
    dropped_message,
    dropped_row,
    early_row,
    late_message,
    missing_copy,
    missing_load,
    one_slot,
    reversed_copy,
    swapped_messages,
    wrong_message,
    wrong_microbatch,
    wrong_name,
    wrong_peer,
    wrong_slot,
)

Fault = Callable[[Program], Iterator[Edit]]

COLLECTIVES: tuple[Fault, ...] = (
    dropped_collective, doubled_collective, wrong_group, wrong_kind, early_collective, late_collective, missing_wait,
    early_wait, never_waited, wrong_target, wrong_source, wrong_bytes, wrong_algorithm, largest_or_sum,
)  # fmt: skip
GROUPS: tuple[Fault, ...] = (exchanged_ranks, merged_groups, split_group, turned_mesh, same_samples)
HALOS: tuple[Fault, ...] = (halo_rows, halo_axis, halo_direction, narrow_window, hasty_window, wrong_rows)
KERNELS: tuple[Fault, ...] = (
    dropped_kernel, doubled_sum, doubled_update, part_left_out, wrong_operand, swapped_operands, wrong_result,
    wrong_pass, wrong_attribute, added_everywhere, not_told, early_kernel, wrong_layout, scaled_twice, wrong_state,
    left_unregularised, wrong_member, left_apart, read_between, updated_twice,
)  # fmt: skip
MESSAGES: tuple[Fault, ...] = (
    swapped_messages, dropped_message, doubled_message, wrong_peer, wrong_message, late_message, wrong_name,
)  # fmt: skip
SCHEDULES: tuple[Fault, ...] = (
    dropped_row, doubled_row, wrong_slot, wrong_microbatch, early_row, one_slot, missing_load, missing_copy,
    reversed_copy,
)  # fmt: skip
BUFFERS: tuple[Fault, ...] = (
    outside_its_bucket, shared_bytes, hasty_takeover, unfit_takeover, wrong_shard, wrong_type, wrong_outputs,
)  # fmt: skip
CASTS: tuple[Fault, ...] = (
    dropped_cast, early_cast, reversed_cast, wrong_cast, narrow_kernel, narrow_sum, narrow_copy, updated_copy,
    stale_weights, wrong_scale, not_skipped,
)  # fmt: skip

FAULTS: tuple[Fault, ...] = (*COLLECTIVES, *GROUPS, *HALOS, *KERNELS, *MESSAGES, *SCHEDULES, *BUFFERS, *CASTS)
"""Every kind of fault."""


def planted(program: Program, count: int) -> Iterator[tuple[str, str, Program]]:
    """(kind, where, Program) of so many faults of each kind, spread over the places where it can be planted."""
    for fault in FAULTS:
        found = (edit for edit in fault(program) if edit[1] != program)
        for where, made in spread(found, count):
            yield fault.__name__, where, made
