"""Lean gradient steps for algorithms that learn from a replay buffer."""
