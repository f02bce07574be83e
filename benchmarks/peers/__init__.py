"""One training step by several ways: the emitted program and PyTorch's, each a process that waits for its turn."""
