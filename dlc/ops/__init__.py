"""The operators, losses, metrics and update rules of the language: one tuple each, nothing registers itself.

`+ - * / @` are spelt add, sub, mul, div, matmul here.
"""

from __future__ import annotations

from dlc.ops.accuracy import ACCURACY
from dlc.ops.adagrad import ADAGRAD
from dlc.ops.adam import ADAM, ADAMW
from dlc.ops.add import ADD
from dlc.ops.attention import ATTENTION
from dlc.ops.avgpool import AVGPOOL
from dlc.ops.bce import BCE
from dlc.ops.bn import BN
from dlc.ops.causal_mask import CAUSAL_MASK
from dlc.ops.concat import CONCAT
from dlc.ops.conv import CONV
from dlc.ops.conv_transpose import CONV_TRANSPOSE
from dlc.ops.cross_entropy import CROSS_ENTROPY
from dlc.ops.depthwise_conv import DEPTHWISE_CONV
from dlc.ops.div import DIV
from dlc.ops.dropout import DROPOUT
from dlc.ops.elu import ELU
from dlc.ops.embedding import EMBEDDING, POSITION_EMBEDDING
from dlc.ops.flatten import FLATTEN
from dlc.ops.gelu import GELU
from dlc.ops.global_avgpool import GLOBAL_AVGPOOL
from dlc.ops.global_maxpool import GLOBAL_MAXPOOL
from dlc.ops.gradients import CLIP, REGULARISE, SUM, UNSCALE
from dlc.ops.groupnorm import GROUPNORM
from dlc.ops.gru import GRU
from dlc.ops.hard_swish import HARD_SWISH
from dlc.ops.heads import MERGE_HEADS, SPLIT_HEADS
from dlc.ops.hinge import HINGE
from dlc.ops.huber import HUBER
from dlc.ops.kl import KL
from dlc.ops.l1 import L1
from dlc.ops.lamb import LAMB
from dlc.ops.lars import LARS
from dlc.ops.layernorm import LAYERNORM
from dlc.ops.lbfgs import LBFGS
from dlc.ops.leaky_relu import LEAKY_RELU
from dlc.ops.linear import LINEAR
from dlc.ops.local_conv import LOCAL_CONV
from dlc.ops.log_softmax import LOG_SOFTMAX
from dlc.ops.lrn import LRN
from dlc.ops.lstm import LSTM
from dlc.ops.matmul import MATMUL
from dlc.ops.maxpool import MAXPOOL
from dlc.ops.mse import HALF_MSE, MSE
from dlc.ops.mul import MUL
from dlc.ops.operator import Operator
from dlc.ops.pad import PAD
from dlc.ops.parameter import PARAMETER
from dlc.ops.perplexity import PERPLEXITY
from dlc.ops.reconstruction import RECONSTRUCTION
from dlc.ops.relu import RELU
from dlc.ops.reshape import RESHAPE
from dlc.ops.rmsnorm import RMSNORM
from dlc.ops.rmsprop import RMSPROP
from dlc.ops.rnn import RNN
from dlc.ops.sgd import SGD
from dlc.ops.sigmoid import SIGMOID
from dlc.ops.silu import SILU
from dlc.ops.slice import SLICE
from dlc.ops.softmax import SOFTMAX
from dlc.ops.split import SPLIT
from dlc.ops.sub import SUB
from dlc.ops.tanh import TANH
from dlc.ops.transpose import TRANSPOSE
from dlc.ops.update_rule import Rule
from dlc.ops.upsample import UPSAMPLE
from dlc.ops.weight_norm import WEIGHT_NORM

LAYERS = (
    CONV, DEPTHWISE_CONV, LOCAL_CONV, CONV_TRANSPOSE, LINEAR, EMBEDDING, POSITION_EMBEDDING, PARAMETER,
    MAXPOOL, AVGPOOL, GLOBAL_AVGPOOL, GLOBAL_MAXPOOL, UPSAMPLE,
    RELU, LEAKY_RELU, ELU, GELU, SILU, HARD_SWISH, SIGMOID, TANH, SOFTMAX, LOG_SOFTMAX,
    FLATTEN, RESHAPE, CONCAT, SLICE, SPLIT, PAD,
    DROPOUT, BN, LAYERNORM, RMSNORM, GROUPNORM, LRN, WEIGHT_NORM,
    ADD, SUB, MUL, DIV, MATMUL, TRANSPOSE,
    ATTENTION, SPLIT_HEADS, MERGE_HEADS, CAUSAL_MASK,
    RNN, LSTM, GRU,
)  # fmt: skip
"""What networks are made of."""

LOSSES = (CROSS_ENTROPY, HINGE, BCE, KL, MSE, HALF_MSE, L1, HUBER, RECONSTRUCTION)
METRICS = (ACCURACY, PERPLEXITY)
OPTIMIZERS = (SGD, ADAGRAD, RMSPROP, ADAM, ADAMW, LARS, LAMB, LBFGS)

OPS = (*LAYERS, *LOSSES, *METRICS, SUM, UNSCALE, REGULARISE, CLIP, *(rule.operator for rule in OPTIMIZERS))
"""Every operator that a node of a Graph can have."""

SIGNS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "@": "matmul"}
"""Operators that are also spelt as signs."""

_OPERATORS = {op.name: op for op in OPS}
_OPTIMIZERS = {rule.name: rule for rule in OPTIMIZERS}


def operator(name: str) -> Operator | None:
    """The operator of that name, whatever its role; None where there is none."""
    return _OPERATORS.get(name)


def optimizer(name: str) -> Rule:
    """The update rule of that name; KeyError where there is none."""
    return _OPTIMIZERS[name]
