"""Checkpoints of runs: the state of objects as data, and its storage on disk."""
