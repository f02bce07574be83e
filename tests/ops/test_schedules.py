"""Learning-rate schedules: each formula against PyTorch's scheduler, and joined pieces."""

import pytest

from dlc.ir.training import Length, RatePiece
from dlc.ops.schedules import SCHEDULES, in_steps, rate_at, schedule


def piece(kind: str, end: Length | None = None, **arguments) -> RatePiece:
    return RatePiece(kind, tuple(arguments.items()), end)


def rates(pieces: tuple[RatePiece, ...], steps: int, per_epoch: int = 1) -> list[float]:
    return [rate_at(pieces, s, per_epoch) for s in range(steps)]


def torchs(make, steps: int, rate: float = 0.1) -> list[float]:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its schedules are not compared with")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_constant() -> None:
    assert rates((piece("constant", rate=0.05),), 3) == [0.05] * 3


@pytest.mark.oracle
def test_step() -> None:
    ours = rates((piece("step", rate=0.1, every=(3, "steps"), factor=0.5),), 20)
    assert ours == pytest.approx(torchs(lambda lr, opt: lr.StepLR(opt, 3, 0.5), 20), rel=1e-12)


@pytest.mark.oracle
def test_exponential() -> None:
    ours = rates((piece("exponential", rate=0.1, every=(1, "steps"), factor=0.9),), 20)
    assert ours == pytest.approx(torchs(lambda lr, opt: lr.ExponentialLR(opt, 0.9), 20), rel=1e-12)


@pytest.mark.oracle
def test_cosine() -> None:
    ours = rates((piece("cosine", Length(20, "steps"), rate=0.1, to=0.01, over=(20, "steps")),), 21)
    assert ours == pytest.approx(torchs(lambda lr, opt: lr.CosineAnnealingLR(opt, 20, 0.01), 21), rel=1e-12)


@pytest.mark.oracle
def test_polynomial() -> None:
    ours = rates((piece("polynomial", rate=0.1, to=0.0, over=(20, "steps"), power=2.0),), 25)
    assert ours == pytest.approx(torchs(lambda lr, opt: lr.PolynomialLR(opt, 20, 2.0), 25), rel=1e-12)


def test_warmup_reaches_its_rate_in_its_last_step() -> None:
    assert rates((piece("warmup", to=0.4, over=(4, "steps")),), 6) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_warmup_then_cosine_starts_from_the_last_rate() -> None:
    """As resnet50 is trained; an epoch has 5 steps here."""
    joined = (
        piece("warmup", Length(2, "epochs"), to=0.4, over=(2, "epochs")),
        piece("cosine", None, to=0.0, over=(4, "epochs"), rate=None),
    )
    found = rates(joined, 40, per_epoch=5)
    assert found[:10] == pytest.approx([0.04 * (s + 1) for s in range(10)])
    assert found[10] == 0.4
    assert found[20] == pytest.approx(0.2)
    assert found[30:] == [0.0] * 10
    assert found[10:31] == sorted(found[10:31], reverse=True)


def test_three_pieces() -> None:
    joined = (
        piece("warmup", Length(2, "steps"), to=1.0, over=(2, "steps")),
        piece("constant", Length(3, "steps"), rate=1.0),
        piece("polynomial", None, to=0.0, over=(4, "steps"), power=1.0),
    )
    assert rates(joined, 10) == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_a_given_rate_overrides_the_last_one() -> None:
    joined = (
        piece("constant", Length(1, "steps"), rate=1.0),
        piece("cosine", None, to=0.0, over=(4, "steps"), rate=0.5),
    )
    assert rates(joined, 2) == [1.0, 0.5]


def test_a_piece_without_end_cannot_be_followed() -> None:
    with pytest.raises(ValueError, match="constant has no end"):
        rate_at((piece("constant", rate=1.0), piece("constant", rate=0.1)), 0, 1)


def test_lengths() -> None:
    assert in_steps((5, "epochs"), 11) == 55
    assert in_steps((2000, "steps"), 11) == 2000
    with pytest.raises(ValueError, match="no length"):
        in_steps(5, 11)


def test_names() -> None:
    assert [kind.name for kind in SCHEDULES] == ["constant", "step", "exponential", "cosine", "polynomial", "warmup"]
    assert schedule("cosine") is SCHEDULES[3]
    assert schedule("linear") is None
    assert [kind.name for kind in SCHEDULES if kind.starts_from_last] == ["cosine", "polynomial"]
