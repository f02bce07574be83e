"""Kernel family `c`: C text for the kernels of one program, for the instruction set at hand.

A generator here makes for an (op, pass) a `source.CFunction`. Convolutions are specialised: all is known but the
samples and, where images are split, their rows. Everything else (`general.GENERAL`) is told its extents at run time and
serves any shape. Operands, their order, meaning and layout are those of the NumPy kernel of the same (op, pass) in
`backends.numpy_mpi.kernels`, whose place it takes; `program` puts a program's functions together. The text uses GCC's
vector extensions and OpenMP; results do not depend on the number of threads.
"""
