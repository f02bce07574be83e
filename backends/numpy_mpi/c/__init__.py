"""Kernel family `c`: C text specialised to the shapes of one op, for the instruction set at hand.

A generator here makes for each (op, pass) a `source.CFunction`: a function of C with everything known but the samples
and, where images are split, their rows. Operands, their order, meaning and layout are those of the NumPy kernel of the
same (op, pass) in `backends.numpy_mpi.kernels`, so that one can take the place of the other. The text uses GCC's vector
extensions and OpenMP; results do not depend on the number of threads.
"""
