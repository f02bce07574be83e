"""Backends: each turns a Program into a folder that runs without dlc."""
