"""Environments as data, and the vectorised environments built from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, SupportsFloat

import gymnasium as gym
from pydantic import Field, field_validator, model_validator

from deltarl import envpool_tasks, own_tasks, plugins, task_packages, yaml_text
from deltarl.dm_control_tasks import DmControlFrames
from deltarl.drift import DriftSpec
from deltarl.errors import ConfigError, Spec, complaint, is_plain, nearest
from deltarl.pixels import PixelsSpec
from deltarl.wrappers import REFUSED, WrapperSpec

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

MOST_SEEDS = 1_000_000
MOST_ENVS = 4_096
# The first evaluation seed, and the default length at which evaluation episodes are cut off.
FIRST_EVALUATION_SEED = 1_000_000
LONGEST_EPISODE = 10_000
# Separate seeding uses the largest seeds below 2**32, the limit of NumPy's legacy generators.
FIRST_TRAINING_SEED = 2**32 - MOST_SEEDS * MOST_ENVS


class NormalizeSpec(Spec):
    """Running normalisation with Stable-Baselines3's VecNormalize; scores are never normalised."""

    observations: bool = Field(False, description="Whether observations are normalised.")
    rewards: bool = Field(
        False, description="Whether rewards are divided by the running standard deviation of the returns."
    )
    keys: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None, description="Entries of Dict observations that are normalised; null for all. Others are left as they are."
    )
    clip: Annotated[float, Field(gt=0, description="Normalised values are clipped to [-clip, clip].")] = 10.0


class SuccessSpec(Spec):
    """When an episode counts as a success."""

    key: str = Field("is_success", description="Entry of the step's info.")
    rule: Literal["end", "any"] = Field("end", description="Success at the last step, or at any.")


class ScoreSpec(Spec):
    """A return over complete episodes, and its source."""

    mean: float = Field(description="Mean return.")
    std: Annotated[float, Field(ge=0)] | None = Field(None, description="Standard deviation over episodes or seeds.")
    success_rate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Fraction of successful episodes."
    )
    episodes: Annotated[int, Field(ge=1)] | None = Field(None, description="Number of episodes.")
    source: str = Field(description="Source of the score.")


# Facts about a task that do not affect a run.
KNOWN_SCORES = ("random_score", "reference_score")


class EnvSpec(Spec):
    """A Gymnasium environment and how agents train in it."""

    id: str = Field(description="Id in Gymnasium's registry, including gymnasium-robotics.")
    kind: Literal["locomotion", "manipulation", "navigation"] | None = Field(
        None, description="Sort of task; only shown in lists."
    )
    kwargs: dict[str, Any] = Field({}, description="Keyword arguments of gymnasium.make.")
    wrappers: tuple[WrapperSpec, ...] = Field((), description="Wrappers, the innermost first.")
    n_envs: Annotated[int, Field(ge=1, le=MOST_ENVS, description="Environments side by side in one process.")] = 1
    seeding: Literal["separate", "consecutive"] = Field(
        "separate",
        description="Seeds of the training environments: a distinct one for each run and environment, or the run's "
        "seed plus 0, 1, ..., as in Stable-Baselines3.",
    )
    vectorization: Literal["dummy", "envpool"] = Field(
        "dummy",
        description="How environments are stepped in training: one after the other in Python, or by EnvPool. Scores "
        "are always Gymnasium's.",
    )
    normalize: NormalizeSpec = Field(NormalizeSpec(), description="Running normalisation.")
    success: SuccessSpec | None = Field(
        None, description="How success is defined; null if the task does not define it."
    )
    random_score: ScoreSpec | None = Field(None, description="Score of uniformly random actions.")
    reference_score: ScoreSpec | None = Field(None, description="A published score, or null.")

    @field_validator("id")
    @classmethod
    def _id_is_registered(cls, env_id: str) -> str:
        if ":" in env_id:
            module, _, own = env_id.partition(":")
            raise complaint(f"'{env_id}' names a module to import; give --import {module}, and '{own}' here")
        try:
            found = is_registered(env_id)
        except ConfigError as error:  # from importing a module
            raise complaint(str(error)) from None
        if not found:
            raise complaint(f"no environment '{env_id}'{nearest(env_id, gym.registry) or _hint_of_modules()}")
        family = task_packages.family_of(env_id)
        if family and not plugins.home_of(gym.spec(env_id)).startswith(family.package):
            tasks = [name for name in gym.registry if plugins.home_of(gym.spec(name)) == family.package]
            if not tasks:  # the package registers classes of another one
                return env_id
            raise complaint(f"'{env_id}' stands for several tasks; give one of them, such as {tasks[0]}")
        return env_id

    @field_validator("wrappers", mode="before")
    @classmethod
    def _wrappers_are_of_use(cls, wrappers: Any) -> Any:
        for each in wrappers if isinstance(wrappers, list | tuple) else ():
            name = each.get("wrapper") if isinstance(each, Mapping) else None
            if isinstance(name, str) and name in REFUSED:
                raise complaint(f"{name}: {REFUSED[name]}")
        return wrappers

    @field_validator("kwargs", mode="before")
    @classmethod
    def _kwargs_can_be_written(cls, kwargs: Any) -> Any:
        try:
            kept = yaml_text.plain_data(kwargs)
        except ValueError as error:
            raise complaint(str(error)) from None
        if odd := [text for text in yaml_text.texts(kept) if not is_plain(text)]:
            raise complaint(f"expected text without control characters; got {odd[0]!r}")
        return kept

    @model_validator(mode="after")
    def _envpool_can_step_it(self) -> EnvSpec:
        if self.vectorization == "envpool" and (fault := self._fault_for_envpool()):
            raise complaint(f"'envpool' {fault}, or give dummy", key="vectorization")
        return self

    def first_seed(self, seed: int) -> int:
        """The seed of a run's first training environment; the others follow it.

        `separate` seeds are disjoint between runs with different seeds, and disjoint from all evaluation seeds below
        `FIRST_TRAINING_SEED`.

        Args:
            seed: the run's seed.

        Raises:
            ConfigError: if a `consecutive` seed would coincide with an evaluation seed.
        """
        if self.seeding == "separate":
            return FIRST_TRAINING_SEED + seed * MOST_ENVS
        if seed + self.n_envs > FIRST_EVALUATION_SEED:
            raise ConfigError(
                f"env.seeding: with consecutive seeds, seed {seed:,} and {self.n_envs} environments would train on "
                f"evaluation episodes, seeded from {FIRST_EVALUATION_SEED:,} on; give separate, or a lower seed"
            )
        return seed

    def held(self, steps: int | None) -> EnvSpec:
        """The environment fixed in its phase after `steps` training steps; None means the last phase."""
        wrappers = tuple(each.held(steps) if isinstance(each, DriftSpec) else each for each in self.wrappers)
        return self if wrappers == self.wrappers else self.model_copy(update={"wrappers": wrappers})

    def phase(self, steps: int) -> int | None:
        """The phase of a drifting task after `steps` training steps; None for other tasks."""
        return next((each.phase(steps) for each in self.wrappers if isinstance(each, DriftSpec)), None)

    def _fault_for_envpool(self) -> str | None:
        if self.id not in envpool_tasks.TASKS:
            return f"has no {self.id}; take one of {', '.join(envpool_tasks.TASKS)}"
        if self.wrappers:
            names = ", ".join(wrapper.wrapper for wrapper in self.wrappers)
            return f"does not support wrappers; remove {names}"
        if self.success is not None:
            return f"does not report '{self.success.key}'; set success=null"
        if unknown := sorted(self.kwargs.keys() - set(envpool_tasks.OPTIONS)):
            return f"does not support kwargs.{unknown[0]}, only {', '.join(envpool_tasks.OPTIONS)}; remove it"
        return None


def is_registered(env_id: str) -> bool:
    """Whether Gymnasium's registry has an environment, after importing all modules that may register some.

    Raises:
        ConfigError: if a module that `DELTARL_IMPORT` names, or the package of the environment, cannot be imported.
    """
    plugins.load()
    if env_id not in gym.registry:
        task_packages.register(env_id)  # slow
    return env_id in gym.registry


def _hint_of_modules() -> str:
    """What imported modules register, or how to import one."""
    if not (registered := plugins.registered()):
        return "; to use one of your own, give the module that registers it: --import MODULE"
    said = [f"{name} registers {', '.join(ids) or 'no environment of its own'}" for name, ids in registered.items()]
    return f"; {', '.join(said)}"


class SuccessInfo(gym.Wrapper[Any, Any, Any, Any]):
    """Sets `is_success` in each info, which Stable-Baselines3 logs, to whether the episode is successful so far."""

    def __init__(self, env: gym.Env[Any, Any], success: SuccessSpec) -> None:
        super().__init__(env)
        self.success = success
        self._succeeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._succeeded = False
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        now = bool(info.get(self.success.key, False))
        self._succeeded = now or (self.success.rule == "any" and self._succeeded)
        return observation, reward, terminated, truncated, {**info, "is_success": self._succeeded}


def build_envs(spec: EnvSpec, seed: int, n_envs: int | None = None, render_mode: str | None = None) -> VecEnv:
    """Build monitored environments in this process, without normalisation; a drifting task is in its last phase.

    Args:
        spec: the environment.
        seed: the environments are seeded with seed, seed + 1, ...
        n_envs: number of environments; default: `spec.n_envs`.
        render_mode: Gymnasium's render mode: human, rgb_array, or None for no frames.

    Raises:
        ConfigError: if a module that `DELTARL_IMPORT` names cannot be imported.
    """
    return _built(spec.held(None), seed, n_envs or spec.n_envs, render_mode)


def _built(spec: EnvSpec, seed: int, n_envs: int, render_mode: str | None = None) -> VecEnv:
    from stable_baselines3.common.env_util import make_vec_env  # noqa: PLC0415 - a config is read without it

    from deltarl.fast.vec_env import DummyVecEnv  # noqa: PLC0415

    is_registered(spec.id)  # in a new process it may not be yet
    options = {**spec.kwargs, "render_mode": render_mode}
    for wrapper in spec.wrappers:
        if isinstance(wrapper, PixelsSpec):
            options |= wrapper.options(render_mode)
    return make_vec_env(
        partial(_make, spec.id),
        n_envs=n_envs,
        seed=seed,
        vec_env_cls=DummyVecEnv,
        env_kwargs=options,
        wrapper_class=partial(_wrapped, wrappers=spec.wrappers, success=spec.success, n_envs=n_envs),
    )


def check_own(spec: EnvSpec, seed: int) -> None:
    """Check an environment that does not come with deltarl, which is built twice and reset a few times for it.

    Args:
        spec: the environment; others are not built.
        seed: the first seed that it is reset with.

    Raises:
        ConfigError: if its observations are empty, or its spaces change.
    """
    if own_tasks.is_own(spec.id) and (
        fault := own_tasks.fault_in_spaces(lambda: _make(spec.id, None, **spec.kwargs), seed)
    ):
        raise ConfigError(f"env: {spec.id}: {fault}")


def _make(env_id: str, render_mode: str | None, **options: Any) -> gym.Env[Any, Any]:
    """`gymnasium.make`, also for environments whose constructor has no `render_mode`."""
    if task_packages.family_of(env_id) is task_packages.DM_CONTROL:
        frames = {name: options.pop(name) for name in ("width", "height", "camera_id") if name in options}
        return DmControlFrames(gym.make(env_id, **options), render_mode, **frames)
    if render_mode is not None:
        options["render_mode"] = render_mode
    env = gym.make(env_id, **options)
    task_packages.tidy(env.unwrapped)
    return env


def build_training_envs(spec: EnvSpec, seed: int, threads: int = 1) -> VecEnv:
    """Build the environments to train in, stepped as `spec.vectorization` says; evaluation uses `build_envs` only.

    A drifting task begins in its first phase, and the environments share a clock.

    Args:
        spec: the environment.
        seed: the run's seed; `spec.first_seed` derives the environments' seeds from it.
        threads: EnvPool's threads.

    Raises:
        ConfigError: if EnvPool is requested and cannot be imported, or if `spec.first_seed` refuses the seed.
    """
    first = spec.first_seed(seed)
    if spec.vectorization == "dummy":
        return _built(spec, first, spec.n_envs)
    from stable_baselines3.common.vec_env import VecMonitor  # noqa: PLC0415

    from deltarl import envpool  # noqa: PLC0415

    return VecMonitor(envpool.EnvPoolVecEnv(spec.id, spec.n_envs, first, threads, spec.kwargs))


def _wrapped(
    env: gym.Env[Any, Any], wrappers: Sequence[WrapperSpec], success: SuccessSpec | None, n_envs: int
) -> gym.Env[Any, Any]:
    for wrapper in wrappers:
        env = wrapper.wrap(env, n_envs) if isinstance(wrapper, DriftSpec) else wrapper.wrap(env)
    return env if success is None else SuccessInfo(env, success)


def normalize(envs: VecEnv, spec: NormalizeSpec, gamma: float) -> VecEnv:
    """Wrap `envs` with the normalisation in `spec`, not of images; `gamma` is the agent's, to scale rewards.

    Raises:
        ConfigError: if `spec.keys` are not entries of the observation that hold numbers.
    """
    if not (spec.observations or spec.rewards):
        return envs
    from stable_baselines3.common.preprocessing import is_image_space  # noqa: PLC0415
    from stable_baselines3.common.vec_env import VecNormalize  # noqa: PLC0415

    observations = spec.observations and not is_image_space(envs.observation_space)  # networks divide images by 255
    if not (observations or spec.rewards):
        return envs
    if observations and (fault := own_tasks.fault_of_keys(envs.observation_space, spec.keys)):
        raise ConfigError(f"env.normalize.keys: {fault}")
    return VecNormalize(
        envs,
        norm_obs=observations,
        norm_reward=spec.rewards,
        clip_obs=spec.clip,
        clip_reward=spec.clip,
        gamma=gamma,
        norm_obs_keys=None if spec.keys is None else list(spec.keys),
    )
