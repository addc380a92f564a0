"""The scores of a run's seeds, for its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deltarl.checkpoints import checkpoint
from deltarl.envs import EnvSpec, ScoreSpec
from deltarl.errors import ConfigError
from deltarl.library import find, names, read_yaml
from deltarl.reading import check_plain
from deltarl.training import folder as files
from deltarl.training.lookup import runs_in
from deltarl.training.records import evaluations_in
from deltarl.training.result import result_in


@dataclass(frozen=True)
class SeedScore:
    """The score of one seed's policy; mean and standard deviation are over episodes."""

    folder: Path
    seed: int
    steps: int
    episodes: int
    return_mean: float
    return_std: float
    success_rate: float | None
    notes: tuple[str, ...] = ()


def scores_of(folder: Path, *, best: bool) -> list[SeedScore]:
    """The scores of all seeds of a run, of those that have the policy, in the order of the seeds.

    Args:
        folder: the folder that holds the seeds, or one of them.
        best: the policies of the best evaluations instead of the final ones.

    Raises:
        ConfigError: if there is no run, or a run is damaged.
    """
    folders = runs_in(folder)
    if folders == [folder] and folder.name.startswith("seed-"):
        digest = files.load_spec(folder).digest()
        near = [path for path in runs_in(folder.absolute().parent) if path.name != folder.name]
        folders += [path for path in near if files.load_spec(path).digest() == digest]
    read = _best if best else _final
    found = [score for path in folders if (score := read(path)) is not None]
    return sorted(found, key=lambda score: score.seed)


def _final(folder: Path) -> SeedScore | None:
    if not (folder / files.RESULT).is_file():
        return None
    result = result_in(folder)
    return SeedScore(
        folder,
        result.seed,
        result.steps,
        result.episodes,
        result.final_return_mean,
        result.final_return_std,
        result.success_rate,
        (*result.continued, *result.notes),
    )


def _best(folder: Path) -> SeedScore | None:
    check_plain(folder)
    if (kept := checkpoint.best(folder)) is None:
        return None
    [seed] = files.load_spec(folder).seeds
    if (evaluation := evaluations_in(folder).get(kept.steps)) is None:
        raise ConfigError(f"{folder / files.EVALUATIONS}: has no evaluation of step {kept.steps:,}, the best one")
    return SeedScore(
        folder,
        seed,
        kept.steps,
        len(evaluation.returns),
        evaluation.return_mean,
        evaluation.return_std,
        evaluation.success_rate,
    )


def highest(scores: Sequence[SeedScore]) -> SeedScore:
    """The best score: by success rate if the task defines success, then by return."""
    return max(scores, key=lambda score: (score.success_rate or 0.0, score.return_mean))


def known_scores(env: EnvSpec) -> dict[str, ScoreSpec]:
    """The scores of random actions and of the literature, from the run's config or today's file of the environment."""
    kinds = {"random actions": "random_score", "published": "reference_score"}
    specs = [env]
    for name in names("envs"):
        data = read_yaml(find("envs", name, "pack")).data
        if data.get("id") == env.id:
            specs.append(EnvSpec.model_validate(data))
    alike = [spec for spec in specs if (spec.id, spec.wrappers, spec.kwargs) == (env.id, env.wrappers, env.kwargs)]
    return {
        name: score
        for name, kind in kinds.items()
        if (score := next((score for spec in alike if (score := getattr(spec, kind)) is not None), None)) is not None
    }
