"""Exports the policy of a run."""

from __future__ import annotations

import json
from pathlib import Path

from deltarl.checkpoints import checkpoint
from deltarl.errors import ConfigError
from deltarl.export.target import Format, check_target
from deltarl.export.write import save_policy
from deltarl.reading import read_json
from deltarl.training import Run, load_run, packed
from deltarl.training import folder as files
from deltarl.training.build import make_envs
from deltarl.training.result import result_in


def export_run(
    run: Path | str,
    path: Path | str,
    *,
    best: bool = False,
    format: Format | None = None,  # noqa: A002 - as in `save_policy`
    overwrite: bool = False,
) -> float:
    """Export the policy of a run, with its normaliser, to one file that describes where it comes from.

    Args:
        run: the run's folder, `.../seed-<n>`, or a packed agent.
        path: as in `save_policy`, which also explains the remaining arguments.
        best: export the policy of the best evaluation instead of the final one; the run need not have finished.

    Returns:
        The largest difference to the policy's actions, relative to half their range.

    Raises:
        ConfigError: if the folder contains no such policy, and as `save_policy` does.
    """
    check_target(Path(path), overwrite=overwrite)
    loaded = load_run(run, device="cpu", best=best)
    envs, _ = make_envs(loaded.spec, loaded.seed)
    envs.close()
    return save_policy(
        loaded.policy,
        path,
        loaded.normalizer,
        observation_space=envs.observation_space,
        format=format,
        metadata=description(loaded),
        overwrite=overwrite,
    )


def description(run: Run) -> dict[str, str]:
    """The metadata of a file: which run its policy comes from."""
    with packed.opened(run.folder) as folder:
        return _description(run, folder)


def _description(run: Run, folder: Path) -> dict[str, str]:
    spec = run.spec
    torso = spec.actor_torso if hasattr(run.policy, "actor_torso") else spec.critic_torso
    found = {
        "task": spec.env.id,
        "env": spec.env.model_dump_json(),
        "evaluation": json.dumps(
            {name: getattr(spec.eval, name) for name in ("episodes", "n_envs", "max_episode_steps")}
        ),
        "algorithm": spec.agent.algorithm,
        "torso": torso.label(),
        **({} if run.spec.encoder.kind == "flat" else {"encoder": run.spec.encoder.label()}),
        "seed": str(run.seed),
        "policy": "best" if run.best else "final",
    }
    if run.best:
        kept = checkpoint.best(folder)
        assert kept is not None
        found |= {
            "steps": str(kept.manifest["steps"]),
            "return_mean": repr(float(kept.manifest["return_mean"])),
            "success_rate": json.dumps(kept.manifest["success_rate"]),
        }
    else:
        result = result_in(folder)
        found |= {
            "steps": str(result.steps),
            "episodes": str(result.episodes),
            "return_mean": repr(result.final_return_mean),
            "return_std": repr(result.final_return_std),
            "success_rate": json.dumps(result.success_rate),
        }
    try:
        made = read_json(folder / files.PROVENANCE)
    except ConfigError:  # a run is complete without it
        return found
    return found | {"git": json.dumps(made.get("git")), "trained_with": json.dumps(made.get("packages"))}
