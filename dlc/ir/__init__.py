"""The compiler's data: Graph (what is computed), Plan (every decision), Program (how it happens)."""
