"""The cluster, train and plan blocks of the language's three samples, resolved in full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.diagnostics import Span
from dlc.expand.build import expand
from dlc.expand.spec import Job, Spec
from dlc.ir.request import Limit, MeshAxis, Request, Rule, Split
from dlc.ir.training import Choice, Length, Precision, RatePiece, Training

SPECS = Path(__file__).parents[2] / "specs"
NOWHERE = Span("", 0, 0, 0, 0)
BLOCKS = (3, 4, 6, 3)


def sample(name: str) -> tuple[Spec, Job]:
    spec = expand(str(SPECS / f"{name}.dlspec"))
    (job,) = spec.jobs
    assert spec.warnings == ()
    return spec, job


def rule(key: str, value: object, selector: str, *addresses: str) -> Rule:
    return Rule(key, value, addresses, selector, NOWHERE, NOWHERE)  # type: ignore[arg-type]


def test_lenet5() -> None:
    spec, job = sample("lenet5")
    core = Device("core", memory=4 * 2**30, bandwidth=10e9, compute=(("f32", 50e9),))
    assert spec.clusters == (
        Cluster("laptop", (core,), (Link("shm", 8e9, 1e-6),), (Group("core", 2, "shm", device="core"),)),
    )
    assert job.training == Training(
        "lenet5",
        Choice("digits", (("scale", 4), ("test", 0.2), ("shuffle", True), ("last", "drop"))),
        Choice("sgd", (("momentum", 0.9), ("nesterov", False), ("weight_decay", 0.0))),
        (RatePiece("constant", (("rate", 0.05),), None),),
        Length(20, "epochs"),
    )
    assert (job.graph.stage, job.graph.loss, job.graph.fields) == ("loss", "loss.cross_entropy", ("label",))
    assert job.graph.metrics == (("accuracy", "metrics.accuracy"),)
    pins = (rule("algorithm", "im2col", "c1.conv", "c1.conv"), rule("layout", "NCHW", "c1.conv", "c1.conv"))
    assert job.requests == (Request("lenet5", "laptop", strategy=Choice("data"), pins=pins),)
    assert job.requests[0].pins[0].value_span.place.endswith("lenet5.dlspec:41")


def test_resnet50() -> None:
    spec, job = sample("resnet50")
    (pod,) = spec.clusters
    assert pod.topology == (Group("node", 4, "infiniband", (Group("v100", 8, "nvlink", device="v100"),)),)
    assert (pod.ranks, pod.link("infiniband").bandwidth, pod.link("infiniband").oversubscription) == (32, 12.5e9, 2.0)
    assert job.training is not None
    assert job.training.rates == (
        RatePiece("warmup", (("to", 0.4),), Length(5, "epochs")),
        RatePiece("cosine", (("to", 0.0), ("rate", None)), Length(85, "epochs")),
    )
    assert job.training.precision == Precision("f16", "f32", "dynamic")
    assert job.training.checkpoint == Choice("every", (("interval", (1, "epochs")), ("to", "ckpt/resnet50")))
    assert dict(job.training.data.arguments)["augment"] == ("flip", "crop")
    assert [name for name, _ in job.graph.metrics] == ["accuracy", "accuracy_top5"]
    (request,) = job.requests
    assert request.limits == (Limit("memory", 28.0 * 2**30, NOWHERE),)
    middles = tuple(
        f"stage{stage}[{i}].main.middle.conv"
        for stage, count in enumerate(BLOCKS, 1)
        for i in range(count)
        if i or stage == 1
    )
    assert request.pins == (
        rule("algorithm", "implicit_gemm", "stem.conv_bn.conv", "stem.conv_bn.conv"),
        rule("layout", "NHWC", "stem.conv_bn.conv", "stem.conv_bn.conv"),
        rule("algorithm", "winograd(4)", "**.conv where window == 3x3 and stride == 1", *middles),
        rule("partition", (Split("feature", "v100"),), "logits.linear", "logits.linear"),
    )
    convolutions = tuple(node.address for node in job.graph.forward if node.op == "conv")
    assert len(convolutions) == 53
    assert {forbid.value for forbid in request.forbids} == {"fft", "fft_tiled"}
    assert all(forbid.addresses == convolutions for forbid in request.forbids)


def test_gpt2() -> None:
    _, job = sample("gpt2")
    assert job.training is not None
    assert job.training.clip == Choice("norm", (("kind", "norm"), ("bound", 1.0)))
    assert job.training.length == Length(100_000, "steps")
    assert job.graph.fields == ("next",)
    (request,) = job.requests
    assert request.mesh == (MeshAxis("pipeline", 4, "node"), MeshAxis("data", 2, "node"), MeshAxis("model", 4, "a100"))
    bare = replace(request, mesh=(), limits=(), pins=(), spans=())
    assert bare == Request("gpt2", "a100_pod", schedule="one_f_one_b", microbatches=16)
    assert [(limit.subject, limit.bound) for limit in request.limits] == [("memory", 34 * 2**30), ("bubble", 0.25)]
    stage, partition, recompute = request.pins
    assert {address.partition(".")[0] for address in stage.addresses} == {"body[0]", "body[1]", "body[2]"}
    assert partition.value == (Split("reduce", "model"),)
    assert partition.addresses == tuple(f"body[{i}].a.self_attention.out" for i in range(12))
    assert (recompute.value, len(recompute.addresses)) == (True, 4 * len(stage.addresses))
