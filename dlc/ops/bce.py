"""`bce(logits, target)`: binary cross-entropy with logits, the mean over all elements, as PyTorch's BCEWithLogitsLoss.

−t·log σ(x) − (1 − t)·log(1 − σ(x)), computed as max(x, 0) − x·t + log(1 + e^−|x|), which no x overflows. The target is
a probability for each logit. Gradients: σ(x) − t by the logit, −x by the target.
"""

from __future__ import annotations

from dlc.ops.compared import comparison

BCE = comparison("bce", prediction="logits", operations=8, backward=6)
