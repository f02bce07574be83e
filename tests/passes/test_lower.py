"""Graph and Plan to Program: conversions, views, collectives, the phases of batch norm, and inference."""

from __future__ import annotations

import pytest

from dlc.driver import Compiled
from dlc.ir.program import Collective, Compute, Copy, Instruction, Load, Role
from dlc.ir.text import from_text, to_text
from passes.streams import stream_key
from tests.passes.conftest import CompileNetwork

IMAGE = "input x: f32[6, channel = 2, height = 6, width = 6]\n"
DATA = "strategy = data"
PLAIN = IMAGE + "a = x -> conv(3, 3x3) -> relu\n y = a -> flatten -> linear(3)\n output y"


def role(job: Compiled) -> Role:
    (found,) = job.program.roles
    return found


def run(job: Compiled, *segments: str) -> list[Instruction]:
    """The instructions of some segments, in order."""
    return [instruction for name in segments for instruction in role(job).segment(name).instructions]


def addresses(job: Compiled, *segments: str) -> list[str]:
    return [i.address for i in run(job, *segments) if isinstance(i, Compute)]


def conversions(job: Compiled, *segments: str) -> list[str]:
    """The buffers that copies into another layout fill."""
    return [i.outputs[0] for i in run(job, *segments) if isinstance(i, Compute) and i.kernel[0] == "convert"]


# Layouts.


def test_where_all_ops_agree_nothing_is_converted_but_at_the_borders(compiled: CompileNetwork) -> None:
    job = compiled(PLAIN, f"{DATA}\n pin ** {{ layout = NHWC }}")
    assert role(job).buffer("x").layout == "NHWC"  # samples are loaded in it
    assert conversions(job, "forward") == ["a.relu@NCHW"]  # views are in logical order
    assert conversions(job, "backward") == ["a.relu@grad@NHWC"]
    assert conversions(job, "predict") == ["a.relu@NCHW"]
    assert conversions(job, "evaluate") == []
    assert conversions(compiled(PLAIN, f"{DATA}\n layout = NCHW"), "forward", "backward", "evaluate", "predict") == []


def test_a_value_is_converted_once_for_each_layout(compiled: CompileNetwork) -> None:
    network = (
        f"{IMAGE}a = x -> conv(3, 3x3)\n b = concat(a -> relu, a -> tanh, a -> sigmoid)\n"
        "y = b -> flatten -> linear(3)\n output y"
    )
    pins = "pin a.conv { layout = NCHW }\n pin b.relu { layout = NHWC }\n pin b.tanh { layout = NHWC }\n"
    job = compiled(network, f"{DATA}\n {pins} pin b.sigmoid {{ layout = CHWN }}\n pin b.concat {{ layout = NCHW }}")
    made = conversions(job, "forward")
    assert [name for name in made if name.startswith("a.conv@")] == ["a.conv@NHWC", "a.conv@CHWN"]
    assert len(made) == len(set(made))


@pytest.mark.parametrize(
    ("extents", "filters"), [("channel = 2, height = 1, width = 1", 3), ("channel = 2, height = 6, width = 5", 1)]
)
def test_layouts_that_lie_alike_are_views(compiled: CompileNetwork, extents: str, filters: int) -> None:
    network = f"input x: f32[6, {extents}]\n y = x -> conv({filters}, 1x1) -> flatten -> linear(3)\n output y"
    job = compiled(network, f"{DATA}\n pin y.conv {{ layout = NHWC }}")
    assert conversions(job, "forward", "backward", "evaluate", "predict") == []
    assert role(job).buffer("y.conv").layout == "NHWC"
    assert role(job).buffer("y.conv@NCHW").view_of == "y.conv"


def test_a_batch_of_one_lies_otherwise_in_chwn(compiled: CompileNetwork) -> None:
    """The batch's extent is the rank's, so it counts as more than one."""
    network = (
        "input x: f32[2, channel = 3, height = 1, width = 1]\n y = x -> conv(2, 1x1) -> flatten -> linear(3)\n output y"
    )
    job = compiled(network, f"{DATA}\n pin y.conv {{ layout = CHWN }}")
    assert conversions(job, "forward") == ["y.conv@NCHW"]


def test_flattened_values_are_views(compiled: CompileNetwork) -> None:
    job = compiled(PLAIN, f"{DATA}\n layout = NCHW")
    assert "y.flatten" not in addresses(job, "forward")
    assert role(job).buffer("y.flatten").view_of == "a.relu"
    assert role(job).buffer("a.relu@grad").view_of == "y.flatten@grad"


def test_kernels_run_in_the_layout_of_the_plan(compiled: CompileNetwork) -> None:
    job = compiled(PLAIN, f"{DATA}\n pin a.conv {{ layout = CHWN, algorithm = fft }}\n pin a.relu {{ layout = NHWC }}")
    found = {i.address: (i.kernel[2], i.layout) for i in run(job, "forward", "backward") if isinstance(i, Compute)}
    assert found["a.conv"] == found["a.conv@dw"] == ("fft", "CHWN")
    assert found["a.relu"] == found["a.relu@dx"] == ("", "NHWC")
    assert role(job).buffer("a.conv").layout == "CHWN"


# Sums over the ranks.


def collectives(job: Compiled, *segments: str) -> list[Collective]:
    return [i for i in run(job, *segments) if isinstance(i, Collective)]


def test_members_lie_back_to_back(compiled: CompileNetwork) -> None:
    found = role(compiled(PLAIN, DATA))
    (bucket,) = (buffer for buffer in found.buffers if buffer.name == "bucket0")
    offset = 0
    for member in (buffer for buffer in found.buffers if buffer.view_of == bucket.name):
        assert member.offset == offset
        offset += member.type.elements
    assert bucket.type.elements == offset > 0


def test_one_rank_sums_nothing(compiled: CompileNetwork) -> None:
    job = compiled(PLAIN, ranks=1)
    assert collectives(job, *(segment.name for segment in role(job).segments)) == []


def test_on_one_rank_the_loss_lies_apart_from_gradients(compiled: CompileNetwork) -> None:
    """It is read when a step is over; they lie where activations were. Where ranks sum, one message has both."""
    found = role(compiled(PLAIN, ranks=1))
    loss, gradient = (found.buffer(name).view_of for name in ("loss.cross_entropy", "y.linear.weight@grad"))
    assert loss is not None
    assert gradient is not None
    assert loss != gradient
    assert found.buffer(loss).view_of is None
    assert found.buffer(gradient).view_of == "transient"
    summed = role(compiled(PLAIN, DATA))
    assert summed.buffer("loss.cross_entropy").view_of == summed.buffer("y.linear.weight@grad").view_of


def test_totals_of_an_evaluation_are_of_whole_sums(compiled: CompileNetwork) -> None:
    job = compiled(PLAIN, DATA)
    *_, last = run(job, "evaluate")
    assert isinstance(last, Compute)
    assert [c.buffer for c in collectives(job, "evaluate")] == list(last.inputs)
    assert last.outputs == ("totals",)
    assert role(job).buffer("totals").type.shape == (2,)  # the loss, and one metric


# Groups of batch norm.


def normalised(group: int) -> str:
    """Batches of twelve, in groups."""
    image = IMAGE.replace("6,", "12,", 1)
    return f"{image}y = x -> conv(2, 3x3) -> bn(group = {group}) -> flatten -> linear(3)\n output y"


@pytest.mark.parametrize(
    ("group", "ranks", "phased"),
    [(12, 2, True), (6, 2, False), (4, 3, False), (4, 2, True),
     (3, 2, False), (5, 2, True), (1, 5, False), (12, 1, False)],
)  # fmt: skip
def test_groups_that_span_ranks_are_summed_in_phases(
    compiled: CompileNetwork, group: int, ranks: int, phased: bool
) -> None:
    job = compiled(normalised(group), DATA, ranks=ranks)
    kernels = [i.kernel[1] for i in run(job, "forward", "backward") if isinstance(i, Compute) and i.kernel[0] == "bn"]
    names = [c.name for c in collectives(job, "forward", "backward") if "bucket" not in c.name]
    if phased:
        assert kernels == ["sums", "squares", "apply", "statistics", "grad_sums", "grad_apply"]
        assert names == ["y.bn.sums", "y.bn.squares", "y.bn@dx.dy_sums", "y.bn@dx.dyx_sums"]
        assert role(job).buffer("y.bn.sums").type.shape == (-(-12 // group), 2)
    else:
        assert kernels == ["forward", "statistics", "dx"]
        assert names == []


def test_partial_batches_split_no_other_groups(compiled: CompileNetwork) -> None:
    """The samples of a partial batch are of the ranks that have them in a whole one."""
    job = compiled(normalised(4), DATA, ranks=3, data="synthetic(samples = 40, classes = 3, last = keep)")
    assert collectives(job, "forward") == []


# Inference.

DROPPED = (
    IMAGE
    + """a = x -> conv(3, 3x3) -> bn -> dropout(0.3) -> relu
  b = a -> dropout(0.2) -> dropout(0.1)
  y = b -> flatten -> linear(3)
  output y"""
)


def test_inference_drops_nothing_and_uses_running_averages(compiled: CompileNetwork) -> None:
    job = compiled(DROPPED, f"{DATA}\n layout = NCHW")
    kernels = [i.kernel[:2] for i in run(job, "predict", "evaluate") if isinstance(i, Compute)]
    assert ("bn", "inference") in kernels
    assert not [kernel for kernel in kernels if kernel[0] == "dropout" or kernel == ("bn", "forward")]


def test_inference_passes_over_dropouts(compiled: CompileNetwork) -> None:
    """flatten is a view of the last dropout's buffer in training, of what goes into the first in inference."""
    job = compiled(DROPPED, f"{DATA}\n layout = NCHW")
    assert not [i for i in run(job, "predict", "forward", "backward") if isinstance(i, Copy)]
    relu, linear = [i for i in run(job, "predict") if isinstance(i, Compute)][-2:]
    assert (relu.inputs, linear.inputs[0]) == (("a.bn",), "y.flatten@given")
    assert role(job).buffer("y.flatten").view_of == "b.dropout_2"
    assert role(job).buffer("y.flatten@given").view_of == "a.relu"


def test_an_output_of_dropout_is_what_goes_into_it_in_inference(compiled: CompileNetwork) -> None:
    job = compiled("input x: f32[6, feature = 4]\n y = x -> linear(3) -> dropout(0.5)\n output y", DATA)
    assert not [i for i in run(job, "predict") if isinstance(i, Copy)]
    assert job.program.outputs == (("y", "y.linear"),)


def test_prediction_computes_what_outputs_need(compiled: CompileNetwork) -> None:
    network = IMAGE + "a = x -> conv(3, 3x3)\n b = a -> relu\n y = b -> flatten -> linear(3)\n output y, b"
    job = compiled(network, f"{DATA}\n pin b.relu {{ layout = NHWC }}")
    assert role(job).segment("load_inputs").instructions == (Load(("x",)),)
    assert not [address for address in addresses(job, "predict") if address.startswith(("loss", "metrics"))]
    assert job.program.outputs == (("y", "y.linear"), ("b", "b.relu@NCHW"))
    assert "b.relu@NCHW" in conversions(job, "predict")


# The rest.


def test_masks_depend_on_seed_and_address(compiled: CompileNetwork) -> None:
    def keys(seed: int) -> dict[str, object]:
        job = compiled(DROPPED, DATA, seed=seed)
        return {
            i.address: dict(i.attrs)["key"]
            for i in run(job, "forward")
            if isinstance(i, Compute) and i.kernel[0] == "dropout"
        }

    first, second = keys(0), keys(1)
    assert first == {address: stream_key(0, address) for address in ("a.dropout", "b.dropout", "b.dropout_2")}
    assert len({*first.values(), *second.values()}) == 6


def test_scratch_arrays_share_the_room_of_what_passes(compiled: CompileNetwork) -> None:
    job = compiled(PLAIN, f"{DATA}\n pin a.conv {{ algorithm = fft }}")
    room = role(job).buffer("transient")
    scratch = [i.workspaces for i in run(job, "forward", "backward") if isinstance(i, Compute) and i.workspaces]
    for workspaces in scratch:
        end = 0
        for found in sorted(map(role(job).buffer, workspaces), key=lambda buffer: buffer.offset):
            assert (found.view_of, found.offset % 64) == (room.name, 0)
            assert end <= found.offset
            end = found.offset + found.type.bytes
        assert end <= room.type.bytes
    assert sum(role(job).buffer(name).type.bytes for names in scratch for name in names) > room.type.bytes


def test_entry_points_run_their_segments(compiled: CompileNetwork) -> None:
    entries = {entry.name: [row.segment for row in entry.schedule] for entry in role(compiled(PLAIN, DATA)).entries}
    assert entries == {
        "train_step": ["load", "forward", "backward", "update"],
        "eval_step": ["load", "predict", "evaluate"],
        "eval_totals": [],
        "predict": ["load_inputs", "predict"],
    }


def test_a_program_reads_as_text(compiled: CompileNetwork) -> None:
    job = compiled("input x: f32[6, feature = 4]\n y = x -> linear(3)\n output y", DATA)
    text = to_text(job.program)
    assert from_text(text) == job.program
    forward = text[text.index("segment forward") : text.index("segment update")]
    words = [line.split(":")[0].strip() for line in forward.splitlines() if line.strip() not in ("}", "")]
    assert words == [
        "segment forward {",
        "compute y.linear",
        "compute loss.cross_entropy",
        "compute metrics.accuracy",
        "segment backward {",
        "compute loss.cross_entropy@dx",
        "compute y.linear@dw",
        "collective bucket0",
    ]
