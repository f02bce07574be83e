"""What stands for cuDNN's convolutions of half precision: sums in f32, results rounded once."""

from __future__ import annotations

from .conv_cudnn import conv_cudnn_dx, conv_cudnn_forward
from .halves import in_f32

conv_cudnn_halves_forward = in_f32("conv_cudnn_halves_forward", conv_cudnn_forward, 1)
conv_cudnn_halves_dx = in_f32("conv_cudnn_halves_dx", conv_cudnn_dx, 1)
