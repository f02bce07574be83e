"""Say why: every way to divide and compute an op with its cost, and the rule that excludes each other one.

Of the strategy: all that were looked at, what a step consists of under each, and why the winner wins.

Or say what a code means, or how an operator is called.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from dlc import driver
from dlc.commands.answer import Answer, UsageError
from dlc.commands.arguments import add_planning, add_search, effort_of, nearest, options_of
from dlc.commands.progress import progress
from dlc.messages import MESSAGES

EXAMPLES = """\
  dlc explain specs/lenet5.dlspec c1.conv      # why c1.conv is computed as it is
  dlc explain specs/lenet5.dlspec strategy     # how the work is divided, and the alternatives
  dlc explain E0302                            # what an error code means
  dlc explain                                  # all codes
  dlc explain lstm                             # how an operator, loss or optimizer is called
  dlc explain operators                        # all of them"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    what = "a .dlspec file, the code of a message, the name of an operator, or `operators`"
    parser.add_argument("what", metavar="FILE|CODE|NAME", nargs="?", help=what)
    parser.add_argument("address", metavar="ADDRESS|strategy", nargs="?", help="an op of the network, or `strategy`")
    add_planning(parser)
    add_search(parser)


def run(arguments: Namespace) -> Answer:
    """All codes, one code, or something of a file's plan."""
    if arguments.what is None:
        return _codes()
    if arguments.address is not None:
        return _decision(arguments)
    if arguments.what.endswith(".dlspec") or os.path.exists(arguments.what):
        raise UsageError("which op? give its address, such as `c1.conv`, or `strategy`")
    return _operator(arguments.what) or _code(arguments.what)


def _operator(text: str) -> Answer | None:
    """An operator, or all of them; None where none bears the name."""
    from dlc.inspect.operators import (
        operator_document,
        operator_text,
        operators_document,
        operators_text,
        shown_operators,
    )

    if text == "operators":
        return Answer(operators_text(), operators_document())
    found = next((op for op in shown_operators() if op.name == text), None)
    return None if found is None else Answer(operator_text(found), operator_document(found))


def _codes() -> Answer:
    from dlc.inspect.tables import table

    rows = [(message.code, message.sentence) for message in MESSAGES.values()]
    document = {"codes": [{"code": code, "message": sentence} for code, sentence in rows]}
    return Answer(table(("code", "message"), rows), document)


def _code(text: str) -> Answer:
    message = MESSAGES.get(text.upper())
    if message is None:
        raise UsageError(f"`{text}` is no file, no code of a message and no operator{_similar(text)}")
    document = {"code": message.code, "message": message.sentence, "explanation": message.explanation}
    return Answer(f"{message.code}: {message.sentence}\n\n{message.explanation}", document)


def _similar(text: str) -> str:
    """The code that has most characters in the same places, where that is all but one or two; else an operator."""
    from dlc.inspect.operators import shown_operators

    best = max(MESSAGES, key=lambda code: sum(map(str.__eq__, code, text.upper())))
    alike = sum(map(str.__eq__, best, text.upper()))
    if alike >= 3 and len(text) == len(best):
        return f", there is a similar one: `{best}`"
    return nearest(text, [op.name for op in shown_operators()])


def _decision(arguments: Namespace) -> Answer:
    """Plan the file, and say why the op at the address, or the strategy, is as it is."""
    options = options_of(arguments)
    source = driver.read(arguments.what, dict(options.parameters))
    with progress(f"planning {arguments.what}"):
        compiled = driver.plan_spec(source, options, effort_of(arguments))
    text, document = (_strategy if arguments.address == "strategy" else _op)(compiled, arguments.address)
    return Answer(text, document, diagnostics=compiled.warnings, sources=source.texts)


def _strategy(compiled: driver.Compiled, _: str) -> tuple[str, dict[str, object]]:
    from dlc.inspect.strategies import strategy_document, strategy_text
    from passes.explain_strategies import explain_strategies

    assert compiled.planned is not None  # a .dlspec file is planned
    found = explain_strategies(compiled.planned)
    return strategy_text(compiled.plan, found), strategy_document(compiled.plan, found)


def _op(compiled: driver.Compiled, address: str) -> tuple[str, dict[str, object]]:
    from dlc.commands.plan import chains_of, packs_of
    from dlc.inspect.explanation import explanation_document, explanation_text
    from dlc.inspect.fusions import around, chains_document, chains_text
    from dlc.inspect.packs import packs_document, packs_text
    from passes.explain_options import explain_options

    addresses = [op.address for op in compiled.plan.ops]
    if address not in addresses:
        raise UsageError(f"there is no op `{address}` in the network{nearest(address, addresses)}")
    assert compiled.planned is not None  # a .dlspec file is planned
    found, calls = explain_options(compiled.planned, address), around(chains_of(compiled), address)
    own = tuple(each for each in packs_of(compiled) if each.address.partition("@")[0] == address)
    parts = (explanation_text(found), chains_text(calls) if calls else "", packs_text(own) if own else "")
    document = {**explanation_document(found), "fusion": chains_document(calls), "packs": packs_document(own)}
    return "\n\n".join(filter(None, parts)), document
