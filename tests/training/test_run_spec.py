"""A run as data: incompatible parts are refused before anything is built."""

from __future__ import annotations

import pytest

from deltarl import ConfigError, RunSpec, load_config
from deltarl.library import UNNAMED_OVERRIDES
from deltarl.training.spec import Part, fields_of

RENORM = "torso.norm=batch_renorm"


@pytest.mark.parametrize(
    ("agent", "overrides", "message"),
    [
        ("sac", ["agent.train_freq=[1, episode]", "env.n_envs=2"], "agent.train_freq: episodes are counted in one"),
        ("dqn", ["env=inverted_pendulum_discrete", "agent.train_freq=[2, episode]", "env.n_envs=3"], "env.n_envs is 3"),
        ("tqc", ["agent.top_quantiles_to_drop_per_net=25"], "leave out all 25 quantiles"),
        (
            "tqc",
            ["agent.policy.n_quantiles=2"],
            "agent.top_quantiles_to_drop_per_net: the target would leave out all 2",
        ),
        ("crossq", ["agent.batch_size=1", "torso=mlp"], "agent.batch_size: batch_renorm needs batches of at least 2"),
        ("sac", ["agent.batch_size=1", RENORM], "agent.batch_size: batch_renorm needs batches of at least 2"),
        ("ppo", ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=1", RENORM], "agent.batch_size: batch_renorm"),
        ("trpo", ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=1", RENORM], "agent.batch_size: batch_renorm"),
        ("a2c", ["agent.n_steps=1", "env.n_envs=1", RENORM], "agent.n_steps: batch_renorm needs batches of at least 2"),
        (
            "a2c",
            ["agent.n_steps=1", "env.n_envs=1", "agent.normalize_advantage=true"],
            "agent.normalize_advantage: the",
        ),
        ("trpo", ["agent.n_steps=8", "env.n_envs=1", "agent.sub_sampling_factor=8"], "agent.normalize_advantage: the"),
        (
            "recurrent_ppo",
            ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=1"],
            "agent.normalize_advantage: the",
        ),
        ("sac", ["agent.optimize_memory_usage=true", "agent.n_steps=3"], "agent.n_steps: n-step returns"),
    ],
)
def test_what_cannot_be_trained_is_refused(agent: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", f"agent={agent}", *overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("agent", "overrides"),
    [
        ("sac", ["agent.train_freq=[1, episode]", "env.n_envs=1"]),
        ("sac", ["agent.train_freq=[2, step]", "env.n_envs=2"]),
        ("sac", ["agent.batch_size=1"]),
        ("tqc", ["agent.top_quantiles_to_drop_per_net=24"]),
        ("crossq", ["agent.batch_size=2"]),
        # PPO does not normalise a batch of one.
        ("ppo", ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=1"]),
        ("ppo", ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=2", RENORM]),
        ("ppo", ["agent.n_steps=2", "agent.batch_size=64", "env.n_envs=1", RENORM]),
        ("trpo", ["agent.n_steps=17", "agent.batch_size=16", "env.n_envs=1", "actor_torso.norm=batch_renorm"]),
        ("a2c", ["agent.n_steps=1", "env.n_envs=1"]),
    ],
)
def test_what_can_be_trained_is_taken(agent: str, overrides: list[str]) -> None:
    assert load_config("quickstart", f"agent={agent}", *overrides).agent.algorithm == agent


def test_every_field_is_marked_once() -> None:
    for name, field in RunSpec.model_fields.items():
        assert sum(isinstance(item, Part) for item in field.metadata) == 1, name
    assert fields_of(*Part) == tuple(RunSpec.model_fields)
    # The fields that names and folders of runs depend on have not changed since the first version.
    assert set(fields_of(Part.PLACE)) == {"name", "out", "seeds"}
    assert set(UNNAMED_OVERRIDES) == {"out", "seeds", "device", "checkpoint", "gates", "logging"}


@pytest.mark.parametrize(
    ("every", "steps"), [("null", None), ("7", 7), ("1.0", 1), ("0.1", 100), ("0.25", 250), ("1.0e-6", 1)]
)
def test_evaluations_are_apart_by_steps_or_by_a_fraction_of_the_training(every: str, steps: int | None) -> None:
    spec = load_config("quickstart", "total_timesteps=1000", f"eval.every={every}")
    assert spec.steps_between_evaluations == steps


@pytest.mark.parametrize(
    ("every", "message"), [("1.5", "expected whole steps, or a fraction"), ("0", "greater than 0")]
)
def test_evaluations_that_are_never_are_refused(every: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^command line: eval\.every: .*{message}.*; got {every}$"):
        load_config("quickstart", f"eval.every={every}")


def test_a_run_of_an_older_version_keeps_its_evaluation_and_its_digest() -> None:
    spec = load_config("quickstart")
    content = spec.model_dump()
    content["eval"] |= {"every": None, "n_envs": 1}  # as older versions wrote their defaults
    older = RunSpec.model_validate(content)
    assert (older.steps_between_evaluations, older.eval.n_envs) == (None, 1)
    assert older.digest() == spec.digest()


@pytest.mark.parametrize(
    ("override", "is_told_apart"),
    [
        ("name=other", False),
        ("out=elsewhere", False),
        ("seeds=[4]", False),
        ("checkpoint.every=7", False),
        ("gates.every=null", False),
        ("env.random_score=null", False),
        ("env.reference_score=null", False),
        ("device=cpu", True),
        ("threads=2", True),
        ("eval.every=7", True),
        ("eval.every=0.1", False),
        ("eval.every=0.2", True),
        ("eval.n_envs=10", False),
        ("eval.n_envs=5", True),
        ("total_timesteps=7", True),
        ("init_from=there", True),
        ("agent.gamma=0.5", True),
        ("critic_torso.width=8", True),
    ],
)
def test_a_digest_is_of_what_a_run_is_not_of_where_and_how_often_it_is_kept(override: str, is_told_apart: bool) -> None:
    plain = load_config("quickstart", "device=auto")
    assert (load_config("quickstart", "device=auto", override).digest() != plain.digest()) is is_told_apart
