"""Hints for options of other programs that deltarl spells differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Options of RL Baselines3 Zoo and of training scripts; verbs that take KEY=VALUE have them as keys.
KEYS: Mapping[str, str] = {
    "agent": "agent={}",
    "algo": "agent={}",
    "algorithm": "agent={}",
    "batch-size": "agent.batch_size={}",
    "device": "device={}",
    "env": "env={}",
    "env-id": "env={}",
    "eval-episodes": "eval.episodes={}",
    "eval-freq": "eval.every={}",
    "gamma": "agent.gamma={}",
    "learning-rate": "agent.learning_rate={}",
    "log-dir": "out={}",
    "log-folder": "out={}",
    "lr": "agent.learning_rate={}",
    "n-envs": "env.n_envs={}",
    "n-timesteps": "total_timesteps={}",
    "n-seeds": "n_seeds={}",
    "name": "name={}",
    "num-envs": "env.n_envs={}",
    "num-threads": "threads={}",
    "out": "out={}",
    "pruner": "pruner={}",
    "sampler": "sampler={}",
    "save-freq": "checkpoint.every={}",
    "seed": "seeds=[{}]",
    "seeds": "seeds=[{}]",
    "threads": "threads={}",
    "timesteps": "total_timesteps={}",
    "torso": "torso={}",
    "total-timesteps": "total_timesteps={}",
}
VERBS = ("train", "tune", "compare", "show")


def as_key(option: str, arguments: Sequence[str]) -> str | None:
    """Translate an unknown option to KEY=VALUE.

    Args:
        option: as it was typed, such as `--seed`.
        arguments: the command line, the verb first.

    Returns:
        For instance `seeds=[3]` for `train quickstart --seed 3`; None if the option or verb has no such key.
    """
    key = KEYS.get(option.lstrip("-").replace("_", "-"))
    if key is None or not arguments or arguments[0] not in VERBS:
        return None
    value = "..."
    for index, argument in enumerate(arguments):
        name, equals, attached = argument.partition("=")
        if name == option:
            following = arguments[index + 1] if index + 1 < len(arguments) else ""
            value = attached if equals else following if following and not following.startswith("-") else value
    return key.format(value)
