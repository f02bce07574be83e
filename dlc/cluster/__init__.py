"""Machines: devices, links, topologies, and what collectives cost on them."""
