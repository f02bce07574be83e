"""CUDA kernels: `MODULE.cu` has the text, `cu_MODULE.py` the bindings that say how calls are launched."""
