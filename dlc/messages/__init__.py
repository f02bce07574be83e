"""The messages, one file per family of codes, and all of them by code for `dlc explain CODE`."""

from dlc.diagnostics import Message
from dlc.messages import e01_syntax, e02_names, e03_shapes, e04_cluster, e05_plan, e06_train, e07_run, e08_onnx

MESSAGES: dict[str, Message] = {
    message.code: message
    for family in (
        e01_syntax.MESSAGES,
        e02_names.MESSAGES,
        e03_shapes.MESSAGES,
        e04_cluster.MESSAGES,
        e05_plan.MESSAGES,
        e06_train.MESSAGES,
        e07_run.MESSAGES,
        e08_onnx.MESSAGES,
    )
    for message in family
}
