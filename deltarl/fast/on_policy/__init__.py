"""Lean updates for algorithms that learn from their latest rollout."""
