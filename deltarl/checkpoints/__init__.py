"""Checkpoints of runs: the state of objects as data, and how it is kept on disk."""
