"""Configs: look-up, layers, overrides and messages for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deltarl import ConfigError, load_config, yaml_text
from deltarl.library import name_with, resolve
from deltarl.torsos import DeltaTorsoSpec, MLPTorsoSpec, ResidualTorsoSpec
from tests.shipped import shipped

RUN = """\
agent:
  base: sac
  batch_size: 64
env:
  base: half_cheetah
  n_envs: 2
total_timesteps: 1e4
"""


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, path: str = "mine.yaml") -> str:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return path


@pytest.mark.parametrize("config", shipped("configs", slow=False))
def test_every_shipped_config_is_valid(config: str) -> None:
    assert load_config(config).name == config


def test_a_config_overrides_the_files_of_its_agent_and_environment() -> None:
    spec = load_config(write(RUN))
    assert (spec.agent.algorithm, spec.agent.batch_size, spec.agent.learning_starts) == ("sac", 64, 5_000)
    assert (spec.env.id, spec.env.n_envs) == ("HalfCheetah-v5", 2)
    assert spec.total_timesteps == 10_000


def test_the_working_directory_comes_before_what_is_shipped() -> None:
    write("algorithm: sac\ntau: 0.5\n", "agents/sac.yaml")
    assert load_config(write(RUN)).agent.tau == 0.5


ENVIRONMENT = "id: Hopper-v5\nkwargs: {forward_reward_weight: %s}\n"
NAMING = {
    "config": "agent: ppo\nenv: env.yaml\ntotal_timesteps: 100\n",
    "base": "agent: ppo\nenv: {base: env.yaml, n_envs: 2}\ntotal_timesteps: 100\n",
}


@pytest.mark.parametrize("naming", NAMING)
def test_a_file_that_a_config_names_is_looked_for_beside_it_first(naming: str) -> None:
    path = write(NAMING[naming], "mine/run.yaml")
    write(ENVIRONMENT % 3.0, "env.yaml")
    assert load_config(path).env.kwargs == {"forward_reward_weight": 3.0}
    write(ENVIRONMENT % 2.0, "mine/env.yaml")
    assert load_config(path).env.kwargs == {"forward_reward_weight": 2.0}
    # Paths on the command line are relative to the working directory; options of an environment are not paths.
    assert load_config(path, "env=env.yaml").env.kwargs == {"forward_reward_weight": 3.0}
    write("agent: ppo\nenv: {base: hopper, kwargs: {config: env.yaml}}\ntotal_timesteps: 9\n", "mine/other.yaml")
    assert load_config("mine/other.yaml").env.kwargs == {"config": "env.yaml"}


def test_a_resolved_config_reads_back_as_itself() -> None:
    spec = load_config("quickstart", "torso.heads=4", "agent.learning_rate={schedule: linear, start: 3e-4}")
    path = write(yaml.safe_dump(spec.model_dump(mode="json")))
    assert load_config(path) == spec


def test_torso_sets_every_role_and_a_roles_own_key_one() -> None:
    spec = load_config("quickstart", "torso.width=32", "critic_torso.depth=5")
    assert (spec.actor_torso.width, spec.critic_torso.width) == (32, 32)
    assert (spec.actor_torso.depth, spec.critic_torso.depth) == (2, 5)


def test_a_new_kind_keeps_the_shared_options_and_drops_the_old_kinds_own() -> None:
    spec = load_config("quickstart", "torso.width=32", "torso.heads=4", "torso=residual")
    assert spec.actor_torso == spec.critic_torso == ResidualTorsoSpec(width=32, hidden=spec.actor_torso.hidden)
    assert load_config("quickstart", "torso=mlp").critic_torso == MLPTorsoSpec()


def test_swapping_the_torso_changes_nothing_else() -> None:
    apart = {"name", "actor_torso", "critic_torso"}
    delta, plain = load_config("quickstart"), load_config("quickstart", "torso=plain")
    assert delta.model_dump(exclude=apart) == plain.model_dump(exclude=apart)


def test_later_overrides_win() -> None:
    assert load_config("quickstart", "total_timesteps=1", "total_timesteps=2").total_timesteps == 2


def test_another_environment_keeps_the_configs_tuned_values_with_a_note() -> None:
    resolution = resolve("quickstart", ["env=half_cheetah"])
    assert resolution.spec.env.id == "HalfCheetah-v5"
    assert resolution.spec.env.n_envs == load_config("quickstart").env.n_envs
    assert "was tuned for another env; these settings stay: agent.n_steps, " in resolution.notes[0]
    assert resolution.notes[0].endswith("env.n_envs, env.normalize")


def test_another_environment_keeps_what_steps_it(tmp_path: Path) -> None:
    config = tmp_path / "pooled.yaml"
    config.write_text("agent: ppo\nenv: {base: hopper, vectorization: envpool}\ntotal_timesteps: 10\n")
    resolution = resolve(str(config), ["env=half_cheetah"])
    assert (resolution.spec.env.id, resolution.spec.env.vectorization) == ("HalfCheetah-v5", "envpool")
    assert resolution.notes[0].endswith("these settings stay: env.vectorization")


def test_another_agent_names_the_environments_overrides_that_stay() -> None:
    resolution = resolve("quickstart", ["agent=sac"])
    assert resolution.notes[0].endswith("was tuned for another agent; these settings stay: env.n_envs, env.normalize")
    assert resolve("quickstart").notes == ()


@pytest.mark.parametrize("override", ["env=hopper", "agent=ppo", "env={base: hopper, n_envs: 4}"])
def test_naming_the_configs_own_agent_or_environment_changes_nothing_else(override: str) -> None:
    resolution = resolve("quickstart", [override])
    assert resolution.notes == ()
    assert resolution.spec.env.normalize.observations
    assert resolution.spec.agent.batch_size == 256


def test_another_agent_drops_the_hyperparameters_of_the_old_one() -> None:
    spec = load_config("quickstart", "agent=sac", "agent.tau=0.01")
    assert (spec.agent.algorithm, spec.agent.tau, spec.agent.batch_size) == ("sac", 0.01, 256)


def test_numbers_may_be_written_as_scientists_write_them() -> None:
    spec = load_config("quickstart", "total_timesteps=2e5", "agent.learning_rate=3e-4")
    assert (spec.total_timesteps, spec.agent.learning_rate) == (200_000, 3e-4)


def test_the_name_tells_the_overrides_that_change_the_run_and_only_those() -> None:
    plain = load_config("quickstart", "seeds=[1,2]", "out=elsewhere", "device=cpu")
    assert plain.name == "quickstart"
    changed = load_config("quickstart", "torso=residual")
    assert changed.name == f"quickstart+residual-{changed.digest()[:6]}"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["env=walker2d", "torso.width=128"], "+walker2d+width=128"),
        (
            ["total_timesteps=1_000_000", "agent.n_steps=2000", "agent.gamma=0.9"],
            "+total_timesteps=1M+n_steps=2k+gamma=0.9",
        ),
        (["torso=mlp", "torso=residual"], "+residual"),
        (["agent.learning_rate={schedule: linear, start: 1e-3}"], ""),
        (["env.kwargs={a: ../../b}", "torso.depth=3"], "+depth=3"),
        (["env=hopper", "agent=ppo", "torso=mlp", "agent.gamma=0.9"], "+hopper+ppo+mlp"),
    ],
)
def test_a_name_tells_three_short_values_at_most(overrides: list[str], told: str) -> None:
    assert name_with("quickstart", overrides, "0123456789") == f"quickstart{told}-012345"


def test_the_name_of_a_run_stays_inside_its_folder() -> None:
    spec = load_config("quickstart", "env.kwargs={a: ../../b}")
    assert "/" not in spec.name


def test_the_digest_is_of_what_is_learned() -> None:
    base = load_config("quickstart")
    assert base.digest() == load_config("quickstart", "seeds=[3]", "out=x").digest()
    assert base.digest() != load_config("quickstart", "total_timesteps=5").digest()


@pytest.mark.parametrize("order", [1, -1])
def test_within_a_file_the_roles_come_after_the_torso_of_all(order: int) -> None:
    parts = ["torso: {kind: residual, depth: 1}\n", "actor_torso: {depth: 4}\n"][::order]
    spec = load_config(write(RUN + "".join(parts)))
    assert (spec.actor_torso.depth, spec.critic_torso.depth) == (4, 1)


def test_in_a_resolved_config_too_hidden_follows_the_width_and_an_mlp_can_become_a_torso() -> None:
    resolved = write(yaml_text.dump(load_config("quickstart").model_dump()))
    assert load_config(resolved, "torso.width=32").actor_torso.hidden == 64
    given = write(yaml_text.dump(load_config("quickstart", "torso.hidden=256", "torso.width=128").model_dump()))
    assert load_config(given, "torso.width=32").actor_torso.hidden == 256
    assert load_config(given, "torso.width=32", "torso.hidden=null").actor_torso.hidden == 64
    assert load_config(resolved, "torso.width=32", "torso.hidden=7").actor_torso.hidden == 7
    mlp = write(yaml.safe_dump(load_config("quickstart", "torso=mlp").model_dump(mode="json")), "mlp.yaml")
    assert load_config(mlp, "torso=delta").actor_torso == DeltaTorsoSpec()


def test_another_id_does_not_keep_the_scores_of_the_first() -> None:
    spec = load_config("quickstart", "env.id=HalfCheetah-v5")
    assert (spec.env.random_score, spec.env.reference_score) == (None, None)
    assert load_config("quickstart").env.random_score is not None


def test_one_seed_needs_no_brackets() -> None:
    assert load_config("quickstart", "seeds=3").seeds == (3,)


def test_a_budget_that_ends_before_learning_starts_is_pointed_out() -> None:
    notes = resolve("half_cheetah_sac", ["total_timesteps=2000"]).notes
    assert notes == ("agent.learning_starts is 10,000 and total_timesteps 2,000: nothing will be learned",)


def test_what_an_environments_file_lacks_is_missed_there() -> None:
    write("kind: locomotion\n", "envs/walker.yaml")
    with pytest.raises(ConfigError, match=r"^envs/walker\.yaml: env\.id: missing$"):
        load_config("quickstart", "env=walker")


def test_base_names_an_agent_on_the_command_line_too() -> None:
    assert load_config("quickstart", "agent.base=sac").agent.algorithm == "sac"


@pytest.mark.parametrize("content", [b"agent: \xff", None], ids=["not UTF-8", "a folder"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    if content is None:
        (tmp_path / "mine.yaml").mkdir()
    else:
        (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_config("mine.yaml")


BAD_OVERRIDES = {
    "torso=residuall": "command line: torso: unknown name 'residuall'; did you mean 'residual'?",
    "torso.wdth=3": "command line: torso.wdth: unknown key; did you mean 'width'?",
    "torso.heads=3": "command line: torso.heads: 3 heads do not divide width 64; use one of 1, 2, 4, 8, 16",
    "critic_torso.depth=0": "command line: critic_torso.depth: input should be greater than or equal to 1; got 0",
    "torso=3": "command line: torso: expected a torso's kind or a mapping; got 3",
    "agent=pp0": "command line: agent: no agent 'pp0'; did you mean 'ppo'?",
    "agent=../envs/hopper": "command line: agent: no agent '../envs/hopper'; known are a2c, crossq, ddpg",
    "agent.algorithm=pppo": "command line: agent.algorithm: unknown name 'pppo'; did you mean 'ppo'?",
    "agent.n_stepss=4": "command line: agent.n_stepss: unknown key; did you mean 'n_steps'?",
    "agent.n_steps=many": "command line: agent.n_steps: input should be a valid integer",
    "agent.gamma=1.5": "command line: agent.gamma: input should be less than or equal to 1; got 1.5",
    "agent.learning_rate=-1": "command line: agent.learning_rate: input should be greater than 0; got -1",
    "agent.learning_rate={schedule: linear, begin: 1}": "command line: agent.learning_rate.begin: unknown key",
    "agent.policy.optimizer=adma": "command line: agent.policy.optimizer: 'adma' is not one of adam, adamw",
    "env=hoper": "command line: env: no env 'hoper'; did you mean 'hopper'?",
    "env.id=Hoper-v5": "command line: env.id: no environment 'Hoper-v5'; did you mean 'Hopper-v5'?",
    "env.id=os:x": "command line: env.id: 'os:x' names a module to import",
    "env.n_envs=0": "command line: env.n_envs: input should be greater than or equal to 1; got 0",
    "total_timestep=3": "command line: total_timestep: unknown key; did you mean 'total_timesteps'?",
    "total_timesteps=.inf": "command line: total_timesteps: ",
    "agent.vf_coef=.nan": "command line: agent.vf_coef: input should be a finite number; got nan",
    "seeds=[0,0]": "command line: seeds: duplicate seed in [0, 0]",
    "seeds=[1000000]": "command line: seeds",
    "seeds=0,1": "command line: seeds: expected a list such as [0, 1]; got '0,1'",
    "eval=2": "command line: eval: expected a mapping; got 2",
    "learning_rate=1e-3": "command line: learning_rate: unknown key; did you mean 'agent.learning_rate'?",
    "env=Walker2d-v5": "command line: env: no env 'Walker2d-v5'; a Gymnasium id is given as env.id=",
    "device=gpu": "command line: device: string should match pattern",
    "name=..": "command line: name: '..' is not a folder name",
    "name=a/b": "command line: name: string should match pattern",
    "eval.episodes=0": "command line: eval.episodes: input should be greater than or equal to 1; got 0",
    "torso": "command line: 'torso' is not of the form key=value or key.path=value",
    "torso.=1": "command line: 'torso.=1' is not of the form key=value or key.path=value",
    "total_timesteps=": "command line: total_timesteps: no value after '='",
    "total_timesteps=[1": "command line: total_timesteps: not valid YAML",
    "total_timesteps=!!python/name:os.system": "command line: total_timesteps: YAML tags are not supported",
    "total_timesteps=1\nname: x": "command line: total_timesteps: expected a value on one line",
    "total_timesteps=true": "command line: total_timesteps: expected a number; got True",
    "total_timesteps=1:30": "command line: total_timesteps: input should be a valid integer",
    "total_timesteps=2024-13-45": "command line: total_timesteps: input should be a valid integer",
    "env.kwargs={? [a] : 1}": "command line: env.kwargs: value: expected a word as key, got a list or a mapping",
    "threads=1000000": "command line: threads: input should be less than or equal to 256; got 1000000",
    "torso.depth=1e8": "command line: torso.depth: input should be less than or equal to 1000",
    "agent.base=sack": "command line: agent.base: no agent 'sack'; did you mean 'sac'?",
    "agent=" + "x" * 300: "command line: agent: ",
    "torso=" + "[" * 30 + "]" * 30: "command line: torso: nested more than 20 levels deep",
}


@pytest.mark.parametrize(("override", "message"), BAD_OVERRIDES.items(), ids=BAD_OVERRIDES)
def test_a_bad_override_is_named_with_what_would_be_right(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", override)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


BAD_FILES = {
    "unknown key": (RUN + "totl: 1\n", "mine.yaml:8: totl: unknown key"),
    "unknown agent key": (RUN.replace("batch_size", "batchsize"), "mine.yaml:3: agent.batchsize: unknown key; did you"),
    "unknown agent": (RUN.replace("sac", "sack"), "mine.yaml:2: agent.base: no agent 'sack'; did you mean 'sac'?"),
    "unknown torso option": (RUN + "torso:\n  kind: delta\n  dept: 3\n", "mine.yaml:10: torso.dept: unknown key; did"),
    "wrong type": (RUN.replace("64", "large"), "mine.yaml:3: agent.batch_size: input should be a valid integer"),
    "the same key twice": (RUN + "total_timesteps: 5\n", "mine.yaml:8: total_timesteps: duplicate key"),
    "no environment": ("agent: ppo\ntotal_timesteps: 1\n", "mine.yaml: env: missing"),
    "no budget": ("agent: ppo\nenv: hopper\n", "mine.yaml: total_timesteps: missing"),
    "a tag": ("agent: !!python/object/apply:os.system [ls]\n", "mine.yaml:1: YAML tags are not supported"),
    "an alias": ("agent: &a ppo\nenv: *a\n", "mine.yaml:2: YAML aliases are not supported"),
    "broken": ("agent: [\n", "mine.yaml:2: not valid YAML"),
    "a list": ("- agent\n", "mine.yaml: expected a mapping of keys to values"),
    "empty": ("", "mine.yaml: expected a mapping of keys to values"),
}


@pytest.mark.parametrize(("text", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named_with_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(text))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("quickstrat", "command line: config: no config 'quickstrat'; did you mean 'quickstart'?"),
        ("missing.yaml", "command line: config: no file 'missing.yaml'"),
    ],
)
def test_an_unknown_config_is_named_with_the_nearest(config: str, message: str) -> None:
    with pytest.raises(ConfigError, match="^" + message.replace("?", r"\?")):
        load_config(config)


def test_the_delta_torso_is_the_default() -> None:
    assert isinstance(load_config("quickstart").actor_torso, DeltaTorsoSpec)
