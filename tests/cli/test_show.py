"""`show`, `copy`, `validate` and `schema` as a user types them."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deltarl import load_config
from deltarl.agents import build_policy
from deltarl.envs import build_envs
from deltarl.library import KINDS, find, names, read_yaml
from tests.quick import Deltarl


def test_show_says_why_parameters_are_not_counted(deltarl: Deltarl) -> None:
    status, out, err = deltarl("show", "hopper_sac", "env.kwargs={no_such: 1}")
    assert status == 0
    assert err.startswith("note: cannot count parameters: env: Hopper-v5 cannot be built")
    assert yaml.safe_load(out)["env"]["kwargs"] == {"no_such": 1}


@pytest.mark.parametrize(
    ("config", "agent", "actor", "critic"),
    [
        ("hopper_sac", "sac_simba", ("residual", 128, 1, 512), ("residual", 512, 2, 2048)),
        ("hopper_sac", "sac_simbav2", ("simbav2", 128, 1, 512), ("simbav2", 512, 2, 2048)),
        ("hopper_sac", "sac_bro", ("bronet", 256, 1, 256), ("bronet", 512, 2, 512)),
        ("hopper_ppo", "ppo_deep", ("delta", 64, 8, 128), ("delta", 64, 8, 128)),
    ],
)
def test_agents_have_the_networks_that_their_files_name(
    config: str, agent: str, actor: tuple[Any, ...], critic: tuple[Any, ...]
) -> None:
    """This also holds if a config overrides some of them."""
    spec = load_config(config, f"agent={agent}")
    for torso, expected in ((spec.actor_torso, actor), (spec.critic_torso, critic)):
        assert (torso.kind, torso.width, torso.depth, torso.hidden) == expected


def test_what_show_prints_is_the_same_run(deltarl: Deltarl) -> None:
    _, out, _ = deltarl("show", "hopper_sac", "torso=residual")
    Path("mine.yaml").write_text(out)
    mine = load_config("mine.yaml")
    assert mine.name == "mine"
    assert mine.digest() == load_config("hopper_sac", "torso=residual").digest()
    assert yaml.safe_load(out)["actor_torso"]["kind"] == "residual"
    counts = re.findall(r"^# (\w+): ([\d,]+) parameters$", out, re.MULTILINE)
    assert [role for role, _ in counts] == ["actor_torso", "critic_torso"]
    with closing(build_envs(mine.env, 0, 1)) as envs:
        critic = build_policy(mine.agent, mine.actor_torso, mine.critic_torso, envs, mine.encoder).critic
    assert int(counts[1][1].replace(",", "")) == sum(p.numel() for p in critic.parameters())


def test_a_copy_is_found_before_the_shipped_file(deltarl: Deltarl) -> None:
    status, out, _ = deltarl("copy", "quickstart")
    assert status == 0
    assert out.startswith("configs/quickstart.yaml, a copy of ")
    copy = Path("configs/quickstart.yaml")
    copy.write_text(copy.read_text().replace("300_000", "7_000"))
    assert load_config("quickstart").total_timesteps == 7_000
    assert deltarl("copy", "envs/hopper", "--to", "mine")[0] == 0
    assert deltarl("copy", "ppo")[1].startswith("agents/ppo.yaml, ")
    assert deltarl("copy", "configs/search/ppo")[0] == 0
    assert load_config("quickstart", "env=mine").env.id == "Hopper-v5"


# In the default tests, tests/test_library.py loads the configs, tests/test_envs.py builds the environments,
# tests/comparison/test_spec.py matches the comparisons, and a test below checks all of them against their schemas.
@pytest.mark.slow
def test_all_that_is_shipped_is_valid(deltarl: Deltarl) -> None:
    status, out, _ = deltarl("validate")
    assert status == 0
    assert out == f"{sum(len(names(kind)) for kind in KINDS)} files are valid\n"


def test_validate_names_every_file_that_is_wrong(deltarl: Deltarl) -> None:
    Path("agent.yaml").write_text("algorithm: ppo\nn_stepss: 3\n")
    Path("env.yaml").write_text("id: Hopper-v5\nkind: swimming\n")
    Path("config.yaml").write_text("agent: ppo\nenv: hopper\ntotal_timesteps: 10\n")
    status, _, err = deltarl("validate", "agent.yaml", "env.yaml", "config.yaml")
    assert status == 2
    assert err.splitlines() == [
        "deltarl: error: agent.yaml:2: agent.n_stepss: unknown key; did you mean 'n_steps'?",
        "deltarl: error: env.yaml:2: env.kind: 'swimming' is not one of locomotion, manipulation, navigation",
    ]


def test_validate_knows_a_comparison_by_its_keys(deltarl: Deltarl) -> None:
    Path("mine.yaml").write_text("reference: delta\ntasks: {hopper: quickstart}\n")
    status, _, err = deltarl("validate", "mine.yaml")
    assert (status, err) == (2, "deltarl: error: mine.yaml: arms: missing\n")


@pytest.mark.parametrize("folder", KINDS)
def test_every_shipped_file_keeps_to_its_schema(folder: str, deltarl: Deltarl) -> None:
    _, out, _ = deltarl("schema", KINDS[folder])
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name in names(folder):
        validator.validate(read_yaml(find(folder, name, "test")).data)
    assert not validator.is_valid({"algorithmm": "ppo"})


def test_the_schema_takes_numbers_as_editors_read_them(deltarl: Deltarl) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(deltarl("schema")[1]))
    config = {"agent": "ppo", "env": "hopper", "total_timesteps": "1_000_000", "seeds": 3}
    assert validator.is_valid(config)
    assert not validator.is_valid({**config, "total_timesteps": "soon"})
    assert not validator.is_valid({**config, "agent": {"base": "ppo", "gamma": 2}})
