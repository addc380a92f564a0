"""A run as data."""

from __future__ import annotations

import hashlib
import json
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from deltarl.agents import AgentSpec, CrossQSpec
from deltarl.encoders import FileEncoderSpec, FlatEncoderSpec
from deltarl.envs import KNOWN_SCORES, LONGEST_EPISODE, MOST_ENVS, MOST_SEEDS, EnvSpec
from deltarl.errors import Spec, complaint
from deltarl.recording.spec import DEFAULT_LOGGING, Logging
from deltarl.torsos import CustomTorsoSpec, DeltaTorsoSpec, FileTorsoSpec
from deltarl.torsos.custom import block_name


class Part(Enum):
    """What a field of a run describes. Code that tells runs apart asks for the fields of certain parts."""

    PLACE = "where it is written, and which of several it is"
    CADENCE = "how often it is stored and measured, and where that is told, which does not change what is learned"
    SCORING = "how it is evaluated"
    MACHINE = "what it runs on"
    ROUNDING = "what its last bits depend on"
    LENGTH = "how long it is"
    CONTENT = "what is learned, and how"


def _listed(seeds: Any) -> Any:
    return (seeds,) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise complaint(f"duplicate seed in {list(seeds)}")
    return seeds


# A single number is a list of one.
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=MOST_SEEDS)], ...],
    Field(min_length=1),
    BeforeValidator(_listed),
    AfterValidator(_distinct),
]


def _steps_or_fraction(every: float) -> float:
    if every > 1 and every % 1:
        raise complaint(f"expected whole steps, or a fraction of total_timesteps below 1; got {every:g}")
    return every if every < 1 else int(every)


class EvaluationSpec(Spec):
    """Evaluation of the deterministic policy, on seeds that training never uses."""

    every: Annotated[int | float, Field(gt=0), AfterValidator(_steps_or_fraction)] | None = Field(
        0.1,
        description="Training steps between evaluations or, below 1, a fraction of total_timesteps; null for one at "
        "the end only.",
    )
    episodes: Annotated[int, Field(ge=1, description="Number of episodes.")] = 20
    n_envs: Annotated[int, Field(ge=1, le=MOST_ENVS, description="Episodes played side by side, at most.")] = 10
    max_episode_steps: Annotated[
        int, Field(ge=1, description="Length at which episodes are cut off; the result notes it.")
    ] = LONGEST_EPISODE
    video: bool = Field(False, description="A clip of one episode in TensorBoard at each evaluation.")


class GatesSpec(Spec):
    """Measurement of the gates during training, which does not change what is learned."""

    every: Annotated[int, Field(ge=1)] | None = Field(
        10_000, description="Training steps between measurements; null for none."
    )
    rows: Annotated[
        int,
        Field(
            ge=2,
            description="Observations to measure on, from the replay buffer or from as many rollouts as needed.",
        ),
    ] = 256
    scalars: Literal["main", "all"] = Field(
        "main",
        description="Statistics in TensorBoard and metrics.jsonl: mean and spread of beta and the erase share of each "
        "block, or all; gates.npz always has all.",
    )


class CheckpointSpec(Spec):
    """Checkpoints, from which an interrupted run resumes."""

    every: Annotated[int, Field(ge=1)] | None = Field(
        50_000, description="Training steps between checkpoints; null for one at the end or when stopped only."
    )
    keep: Annotated[int, Field(ge=1, description="Number of newest checkpoints to keep.")] = 2
    exact: bool = Field(False, description="Refuse to start or resume a run that could not be resumed exactly.")


class RunSpec(Spec):
    """Everything that determines a training run, except the machine."""

    name: Annotated[str, Part.PLACE] = Field(
        "run", pattern=r"^[^/\x00]+$", max_length=200, description="Folder of the run below `out`."
    )
    agent: Annotated[AgentSpec, Part.CONTENT] = Field(
        description="Name or file of an agent, or a mapping with its `base` and the changes."
    )
    env: Annotated[EnvSpec, Part.CONTENT] = Field(
        description="Name or file of an environment, or a mapping with its `base` and the changes."
    )
    actor_torso: Annotated[FileTorsoSpec, Part.CONTENT] = Field(
        DeltaTorsoSpec(), description="The policy network's torso."
    )
    critic_torso: Annotated[FileTorsoSpec, Part.CONTENT] = Field(
        DeltaTorsoSpec(), description="The torso of the value network or the Q networks."
    )
    encoder: Annotated[FileEncoderSpec, Part.CONTENT] = Field(
        FlatEncoderSpec(), description="What stands between the observation and the torsos."
    )
    total_timesteps: Annotated[
        int,
        Part.LENGTH,
        Field(ge=1, description="Training steps over all environments; the last rollout is completed."),
    ]
    seeds: Annotated[Seeds, Part.PLACE] = Field(
        (0,), description="Seeds to train, one run for each; a single number is a list of one."
    )
    eval: Annotated[EvaluationSpec, Part.SCORING] = Field(EvaluationSpec(), description="Evaluations.")
    checkpoint: Annotated[CheckpointSpec, Part.CADENCE] = Field(CheckpointSpec(), description="Checkpoints.")
    gates: Annotated[GatesSpec, Part.CADENCE] = Field(GatesSpec(), description="Measurement of the gates.")
    logging: Annotated[Logging, Part.CADENCE] = Field(
        DEFAULT_LOGGING,
        description="Loggers besides metrics.jsonl: names, or mappings with `sink` and options.",
    )
    device: Annotated[str, Part.MACHINE] = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N."
    )
    threads: Annotated[int, Part.ROUNDING, Field(ge=1, le=256)] = Field(
        1, description="PyTorch threads; floating-point results depend on their number."
    )
    init_from: Annotated[str | None, Part.CONTENT] = Field(
        None, min_length=1, description="Folder of a run to take the initial networks and normaliser from."
    )
    out: Annotated[str, Part.PLACE] = Field("runs", min_length=1, description="Folder that holds runs.")

    @field_validator("name")
    @classmethod
    def _name_is_a_folder_name(cls, name: str) -> str:
        if name in {".", ".."}:
            raise complaint(f"'{name}' is not a folder name")
        return name

    @model_validator(mode="after")
    def _blocks_can_be_named(self) -> RunSpec:
        for role in ("actor_torso", "critic_torso"):
            torso = getattr(self, role)
            if isinstance(torso, CustomTorsoSpec) and block_name(torso.block) is None:
                raise complaint(
                    f"a config cannot name {torso.block!r}; give a class at the top level of a module",
                    key=f"{role}.block",
                )
        return self

    @model_validator(mode="after")
    def _agent_can_train(self) -> RunSpec:
        self.agent.check(self.env.n_envs)
        for role, rows in self.agent.smallest_batches(self.env.n_envs).items():
            norm = "batch_renorm" if isinstance(self.agent, CrossQSpec) else getattr(getattr(self, role), "norm", None)
            if norm == "batch_renorm" and rows < 2:
                raise complaint(
                    f"{norm} needs batches of at least 2 transitions; got a batch of {rows} (n_steps, env.n_envs, "
                    "batch_size)",
                    key="agent.batch_size" if hasattr(self.agent, "batch_size") else "agent.n_steps",
                )
        return self

    def check_seeds(self) -> None:
        """Check that all seeds can be trained.

        Raises:
            ConfigError: if an environment would have the seed of an evaluation episode.
        """
        for seed in self.seeds:
            self.env.first_seed(seed)

    @property
    def steps_between_evaluations(self) -> int | None:
        """`eval.every` in training steps; None for an evaluation at the end only."""
        every = self.eval.every
        return max(1, round(every * self.total_timesteps)) if isinstance(every, float) else every

    def digest(self) -> str:
        """Eight hex digits, equal for runs that differ at most in name, seeds, folder, cadences or known scores."""
        aside: dict[str, Any] = dict.fromkeys(fields_of(Part.PLACE, Part.CADENCE), True)
        content = self.model_dump(mode="json", exclude={**aside, "env": set(KNOWN_SCORES)})
        # The defaults of older versions, whose runs keep their names.
        for name, former in (("every", None), ("n_envs", 1)):
            if content["eval"][name] == EvaluationSpec.model_fields[name].default:
                content["eval"][name] = former
        if content["encoder"] == FlatEncoderSpec().model_dump(mode="json"):
            del content["encoder"]  # older versions had no other
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def fields_of(*parts: Part) -> tuple[str, ...]:
    """The fields of a run that describe these parts of it."""
    return tuple(name for name, field in RunSpec.model_fields.items() if any(part in parts for part in field.metadata))
