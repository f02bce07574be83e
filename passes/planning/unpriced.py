"""What a train block asks for that the cost model does not price: updates that are not synchronous, and compression
(W0504)."""

from __future__ import annotations

from collections.abc import Iterator

from dlc.diagnostics import Diagnostic
from dlc.ir.training import Choice
from dlc.messages.e05_plan import UNPRICED
from passes.context import Context

UPDATES = {
    "parameter_server": "workers wait for servers, not for each other: each of s shards gets and sends P/s times the "
    "bytes of the gradients of P workers' network, where every rank of a sum sends 2(P - 1)/P times them",
    "hogwild": "workers write to shared weights without waiting for each other",
    "elastic_average": "workers exchange weights only every `every` steps",
    "average": "workers exchange weights only every `every` steps",
    "gossip": "each worker exchanges weights with `peers` others in a step, instead of with all",
    "neighbour_average": "each worker exchanges weights with two neighbours in a step, instead of with all",
    "krum": "every worker's gradients are sent and compared one by one, which takes more than their sum",
    "backup": "the slowest workers of a step are not waited for",
}
"""How each kind of update communicates, where a synchronous one sums all gradients over all ranks in every step."""

COMPRESSIONS = {
    "f16": "gradients are sent in half the bytes or less",
    "quantize": "gradients are sent in `bits` bits a value",
    "onebit": "gradients are sent in one bit a value",
    "ternary": "gradients are sent in two bits a value or less",
    "topk": "a share of the gradients is sent, each with its place",
    "threshold": "the gradients above a threshold are sent, each with its place",
    "powersgd": "of an M x N gradient rank (M + N) values are sent",
}
"""What each compression sends. Compressing and its feedback take time, which is not priced either."""


def unpriced(context: Context) -> Iterator[Diagnostic]:
    """W0504 for `update` and for `compress`, where there are other ranks to communicate with."""
    training = context.training
    asked: tuple[tuple[str, Choice, str, dict[str, str]], ...] = (
        ("update", training.update, "synchronous", UPDATES),
        ("compress", training.compress, "none", COMPRESSIONS),
    )
    for key, choice, priced, facts in asked:
        if context.ranks > 1 and choice.kind != priced:
            yield UNPRICED.at(
                training.span(key),
                notes=(f"with it {facts[choice.kind]}",),
                setting=f"{key} = {choice.kind}",
                priced=f"{key} = {priced}",
            )
