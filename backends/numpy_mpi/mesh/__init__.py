"""Programs whose ranks are a mesh: what a rank holds follows from its place, and pipelines have stages of their own."""
