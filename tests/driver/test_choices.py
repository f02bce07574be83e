"""What the driver compiles: which network, plan and cluster, on how many ranks; and that what is unsound ends here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlc.cluster.detect import NAME
from dlc.diagnostics import Diagnostic, DiagnosticError
from dlc.driver import Compiled, Options, check_file, context_of, read, serial
from dlc.ir.graph import Graph
from dlc.ir.program import Collective, Compute, Copy, Program
from passes.context import Context
from tests.driver.conftest import CLUSTER, NETWORK, Compile, Write, spec

TRIO = CLUSTER.replace("pair", "trio").replace("core[2]", "core[3]")
PLAN_ON_TRIO = "plan tiny on trio {\n  layout = NHWC\n}\n"
PLAN_ON_PAIR = "plan tiny on pair {\n  layout = CHWN\n}\n"


def refused(compiled: Compile, text: str, **options: object) -> Diagnostic:
    with pytest.raises(DiagnosticError) as error:
        compiled(text, **options)
    return error.value.diagnostics[0]


def layout(job: Compiled) -> str:
    return job.plan.op("c1.conv").layout


def test_the_one_cluster_is_taken(compiled: Compile) -> None:
    job = compiled(spec())
    assert (job.plan.cluster, job.plan.ranks, job.plan.shards) == ("pair", 2, ((0, 4), (4, 8)))


def test_a_plan_block_settles_the_cluster(compiled: Compile) -> None:
    job = compiled(spec(cluster=CLUSTER + TRIO) + PLAN_ON_TRIO)
    assert (job.plan.cluster, job.plan.ranks, layout(job)) == ("trio", 3, "NHWC")


def test_on_settles_the_plan(compiled: Compile) -> None:
    text = spec(cluster=CLUSTER + TRIO) + PLAN_ON_TRIO + PLAN_ON_PAIR
    assert refused(compiled, text).code == "E0709"
    assert [layout(compiled(text, cluster=name)) for name in ("pair", "trio")] == ["CHWN", "NHWC"]


def test_on_a_cluster_without_a_plan_leaves_all_open(compiled: Compile) -> None:
    text = spec(cluster=CLUSTER + TRIO) + PLAN_ON_TRIO
    job = compiled(text, cluster="pair")
    assert (job.plan.cluster, job.plan.ranks) == ("pair", 2)
    assert job.context.request.layout == "auto"


def test_without_a_cluster_it_is_the_machine_at_hand(compiled: Compile) -> None:
    job = compiled(spec(cluster=""))
    assert job.plan.cluster == NAME
    assert job.plan.ranks == job.context.cluster.ranks
    assert compiled(spec(cluster=""), ranks=3).plan.ranks == 3
    assert refused(compiled, spec(cluster=""), cluster="pair").code == "E0714"


@pytest.mark.parametrize("ranks", range(1, 9))
def test_any_number_of_ranks_gets_a_program(compiled: Compile, ranks: int) -> None:
    job = compiled(spec("strategy = data"), ranks=ranks)
    assert job.program.ranks == job.plan.ranks == len(job.plan.shards) == ranks
    extents = [stop - start for start, stop in job.plan.shards]
    assert sum(extents) == 8
    assert max(extents) - min(extents) <= 1
    assert extents == sorted(extents, reverse=True)


def test_ranks_resize_the_innermost_group(compiled: Compile) -> None:
    nested = CLUSTER.replace("core[2] over shm", "node[2] over shm { core[2] over shm }")
    found = [compiled(spec(cluster=nested), ranks=ranks).context.cluster for ranks in (1, 2, 4, 6, 8)]
    assert [[level.count for level in cluster.levels] for cluster in found] == [[1, 1], [2, 1], [2, 2], [2, 3], [2, 4]]
    assert refused(compiled, spec(cluster=nested), ranks=3).code == "E0712"


def test_what_cannot_be_resized_says_why_and_what_to_do(compiled: Compile) -> None:
    nested = CLUSTER.replace("core[2] over shm", "node[2] over shm { core[2] over wires }")
    drawn = nested.replace(
        "  topology", "  link wires { bandwidth = 1 GB/s, latency = 1 us, edges = [[0, 1]] }\n  topology"
    )
    found = refused(compiled, spec(cluster=drawn), ranks=8)
    assert any("`wires` joins 2 members" in note for note in found.notes)
    assert any("`node[4]`" in way for way in found.helps)
    assert compiled(spec(cluster=drawn.replace("node[2]", "node[4]"))).plan.ranks == 8
    odd = refused(compiled, spec(cluster=nested.replace("over wires", "over shm")), ranks=5)
    assert "4 and 6" in odd.helps[0]
    uneven = CLUSTER.replace("core[2] over shm", "machine over shm { core; core }")
    assert any("--on" in way for way in refused(compiled, spec(cluster=uneven), ranks=3).helps)


def test_a_mesh_of_the_batch_follows_the_ranks(compiled: Compile) -> None:
    job = compiled(spec("mesh { data = core }"), ranks=5)
    assert job.plan.mesh == (("data", 5),)


def test_precision_of_the_command_line_goes_before_the_block(compiled: Compile) -> None:
    job = compiled(spec(), precision="f64")
    assert job.program.dtype == "f64"
    assert {value.type.dtype for value in job.graph.of_kind("weight", "activation", "gradient")} == {"f64"}


def test_the_serial_program_has_the_same_algorithms(compiled: Compile) -> None:
    many = compiled(spec("pin c1.conv { algorithm = fft, layout = CHWN }"))
    one = serial(many)
    decided = [[(op.address, op.layout, op.passes, op.reason) for op in job.plan.ops] for job in (many, one)]
    assert decided[0] == decided[1]
    assert (one.program.ranks, {op.partition for op in one.plan.ops}) == (1, {()})
    assert not [i for s in one.program.roles[0].segments for i in s.instructions if isinstance(i, Collective)]


def test_warnings_of_the_file_and_of_the_plan_come_together(compiled: Compile) -> None:
    text = spec(
        "pin c1.conv { algorithm = im2col }", network=NETWORK.replace("output", "unused = c1 -> relu\n  output")
    )
    assert [warning.code for warning in compiled(text).warnings] == ["W0202", "W0501"]


def test_check_and_context_do_not_plan(write: Write) -> None:
    path = write(spec("strategy = pipeline, pipeline.microbatches = 4"))
    assert check_file(path) == ((), {path: spec("strategy = pipeline, pipeline.microbatches = 4")})
    job, context = context_of(read(path), Options())
    assert (job.graph.stage, context.request.microbatches) == ("loss", 4)


# Defects of dlc.


def test_an_unsound_program_is_never_emitted(compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    """E0707: a lowering that forgets to sum the gradients."""
    from passes.lowering.lowered import Lowered

    lowered = Lowered.program

    def forgetful(found: Lowered) -> Program:
        program = lowered(found)
        (role,) = program.roles
        segments = tuple(
            replace(s, instructions=tuple(i for i in s.instructions if not isinstance(i, Collective)))
            for s in role.segments
        )
        return replace(program, roles=(replace(role, segments=segments),))

    monkeypatch.setattr(Lowered, "program", forgetful)
    found = refused(compiled, spec())
    assert found.code == "E0707"
    assert "before it is summed over the ranks" in found.message


def test_an_unsound_graph_names_the_pass(compiled: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    import passes
    from dlc.ir.verify import InternalError

    def careless(graph: Graph, context: Context) -> Graph:
        return graph.with_(nodes=graph.nodes[1:])

    monkeypatch.setattr(passes, "PIPELINE", (careless, *passes.PIPELINE))
    with pytest.raises(InternalError, match="careless"):
        compiled(spec())


def test_inference_copies_nothing_at_a_dropout(compiled: Compile) -> None:
    """What reads its result, views of it too, reads its operand."""
    dropped = NETWORK.replace("-> relu", "-> relu -> dropout(0.5)").replace("flatten", "flatten -> dropout(0.2)")
    (role,) = compiled(spec(network=dropped)).program.roles
    made = role.segment("predict").instructions
    kernels = {i.kernel[0] for i in made if isinstance(i, Compute)}
    assert {"conv", "relu", "linear"} <= kernels <= {"conv", "relu", "linear", "convert"}
    assert not any(isinstance(i, Copy) for i in made)
