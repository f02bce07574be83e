"""Syntax tree to Spec: parameters, blocks, repeats and addresses expanded, every name and number checked."""
