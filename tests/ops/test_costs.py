"""Work and depth against the table of cost-models.md §1."""

import pytest

from dlc.ir.tensor import TensorType, tensor
from dlc.ops import operator
from dlc.ops.counting import lg
from dlc.ops.operator import Cost, Shapes

N, C, H, W = 32, 6, 28, 28
IMAGE = tensor("f32", batch=N, channel=C, height=H, width=W)
X, Y = tensor("f32", batch=N, feature=400), tensor("f32", batch=N, feature=84)
WEIGHT, BIAS = tensor("f32", out=84, **{"in": 400}), tensor("f32", out=84)
GROUPS = tensor("f32", group=1, channel=C)
CHANNELS = tensor("f32", channel=C)
POOLED = tensor("f32", batch=N, channel=C, height=9, width=14)
WINDOW = {"window": (3, 2)}
IMAGES = N * C * H * W
MACS = N * 400 * 84


def cost(name: str, pass_: str, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...], **attrs) -> Cost:
    op = operator(name)
    assert op is not None
    return op.cost(pass_, Shapes(inputs, outputs, attrs))


TABLE = [
    ("relu", "forward", (IMAGE,), (IMAGE,), {}, IMAGES, 1),
    ("tanh", "dx", (IMAGE, IMAGE), (IMAGE,), {}, IMAGES, 1),
    ("linear", "forward", (X, WEIGHT, BIAS), (Y,), {}, MACS, 9),
    ("linear", "dw", (Y, X), (WEIGHT, BIAS), {}, MACS, 5),
    ("linear", "dx", (Y, WEIGHT), (X,), {}, MACS, 7),
    ("maxpool", "forward", (IMAGE,), (POOLED, POOLED.with_dtype("i32")), WINDOW, IMAGES, 2 + 1),
    ("maxpool", "dx", (POOLED, POOLED.with_dtype("i32")), (IMAGE,), WINDOW, IMAGES, 1),
    ("avgpool", "forward", (IMAGE,), (POOLED,), WINDOW, IMAGES, 2 + 1),
    ("avgpool", "dx", (POOLED,), (IMAGE,), WINDOW, IMAGES, 1),
    ("global_avgpool", "forward", (IMAGE,), (IMAGE,), {}, IMAGES, 5 + 5),
    ("bn", "forward", (IMAGE, *[CHANNELS] * 4), (IMAGE, GROUPS, GROUPS), {}, IMAGES, lg(N * H * W)),
    ("bn", "dx", (IMAGE, IMAGE, CHANNELS, GROUPS, GROUPS), (IMAGE, CHANNELS, CHANNELS), {}, IMAGES, lg(N * H * W)),
    ("bn", "forward", (X,), (X,), {}, N * 400, lg(N)),
    ("sum", "forward", (X, X, X), (X,), {}, 2 * N * 400, 2),
    ("add", "forward", (X, X), (X,), {}, N * 400, 1),
    ("flatten", "forward", (IMAGE,), (X,), {}, 0, 0),
    ("concat", "forward", (IMAGE, IMAGE), (IMAGE.with_extent("channel", 2 * C),), {"axis": 1}, 0, 0),
    ("softmax", "forward", (X,), (X,), {"axis": 1}, N * (5 * 400 - 2), 2 * 9 + 3),
    ("sgd", "update", (WEIGHT, WEIGHT), (), {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}, 2 * 84 * 400, 2),
    ("sgd", "update", (WEIGHT,) * 3, (), {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, 8 * 84 * 400, 8),
]  # fmt: skip


@pytest.mark.parametrize(("name", "pass_", "inputs", "outputs", "attrs", "work", "depth"), TABLE)
def test_work_and_depth(name, pass_, inputs, outputs, attrs, work, depth) -> None:
    found = cost(name, pass_, inputs, outputs, **attrs)
    assert (found.work, found.depth) == (work, depth)
    assert found.macs == (MACS if name == "linear" else 0)


def test_bytes_are_what_is_touched_at_least_once() -> None:
    assert cost("linear", "forward", (X, WEIGHT, BIAS), (Y,)).bytes == 4 * (N * 400 + 400 * 84 + 84 + N * 84)
    assert cost("dropout", "forward", (X,), (X, X.with_dtype("u8"))).bytes == N * 400 * (4 + 4 + 1)
    assert cost("flatten", "forward", (IMAGE,), (X,)).bytes == 0
    assert cost("embedding", "forward", (tensor("i32", batch=2, seq=3), tensor("f32", vocab=50257, width=8)),
                (tensor("f32", batch=2, seq=3, width=8),)).bytes == 4 * (6 + 2 * 48)  # fmt: skip


def test_matrix_products_count_one_contraction_forward_and_two_backward() -> None:
    a, b = tensor("f32", batch=2, heads=3, seq=5, width=7), tensor("f32", batch=2, heads=3, width=7, key=11)
    y = tensor("f32", batch=2, heads=3, seq=5, key=11)
    assert cost("matmul", "forward", (a, b), (y,)) == Cost(2310, 2310, 3, 4 * (210 + 462 + 330))
    assert cost("matmul", "dx", (y, a, b), (a, b)).macs == 2 * 2310


def test_depth_of_a_reduction() -> None:
    assert [lg(n) for n in (1, 2, 3, 4, 5, 8, 9, 1024, 1025)] == [0, 1, 2, 2, 3, 3, 4, 10, 11]


def test_costs_are_proportional_to_the_batch() -> None:
    """Losses and metrics too: what a rank does with its shard is its share of the whole."""
    for name in ("cross_entropy", "accuracy", "softmax", "dropout"):
        small, large = (
            cost(name, "forward", (tensor("f32", batch=n, feature=10), tensor("i32", batch=n)),
                 (tensor("f32", batch=n, feature=10),), axis=1)
            for n in (8, 24)
        )  # fmt: skip
        assert large.work == 3 * small.work
