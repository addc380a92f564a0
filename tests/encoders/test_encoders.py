"""Encoders as plain data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.torch_layers import CombinedExtractor
from torch import nn

from deltarl import ConfigError, load_config
from deltarl.encoders import ENCODER_KINDS, GRUEncoderSpec, LastEncoderSpec, merge_encoder, parse_encoder
from deltarl.envs import KNOWN_SCORES
from deltarl.library import resolve
from deltarl.schema import schema_of
from deltarl.schema_kinds import Kind
from deltarl.training.sizes import parameters_by_role
from deltarl.training.spec import Part, fields_of
from tests.encoders.matrix import SMALL, make
from tests.policies.matrix import SUBJECTS
from tests.policies.matrix import make as make_flat

BY_ALGORITHM = {subject.algorithm: subject for subject in SUBJECTS}
HISTORIES = spaces.Box(-1, 1, (3, 5))


def test_last_reads_the_newest_observation_only() -> None:
    module = LastEncoderSpec().build(HISTORIES)
    batch = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(module(batch), batch[:, 2])
    assert module.features_dim == 5


def test_a_gru_starts_from_zeros_and_reads_to_the_end() -> None:
    torch.manual_seed(0)
    module = GRUEncoderSpec(width=4).build(HISTORIES)
    batch = torch.randn(2, 3, 5)
    cell = nn.GRUCell(5, 4)
    cell.load_state_dict({name.removesuffix("_l0"): tensor for name, tensor in module.gru.state_dict().items()})
    state = torch.zeros(2, 4)
    for step in range(3):
        state = cell(batch[:, step], state)
    assert torch.allclose(module(batch), state, atol=1e-6)


@pytest.mark.parametrize("encoder", ["gru", {"kind": "gru"}, GRUEncoderSpec()])
def test_an_encoder_can_be_a_kind_data_or_a_spec(encoder: Any) -> None:
    assert parse_encoder(encoder) == GRUEncoderSpec()


def test_another_kind_keeps_the_options_that_both_share() -> None:
    assert merge_encoder({"kind": "gru", "width": 8}, "last") == {"kind": "last"}
    assert merge_encoder({"kind": "gru", "width": 8}, {"depth": 2}) == {"kind": "gru", "width": 8, "depth": 2}


# In configs


def test_overrides_reach_the_run_and_its_name() -> None:
    spec = resolve("quickstart", ["env=hopper_masked", "encoder=gru", "encoder.depth=2"]).spec
    assert spec.encoder == GRUEncoderSpec(depth=2)
    assert spec.name.startswith("quickstart+hopper_masked+gru+depth=2-")


def test_a_run_without_an_encoder_keeps_its_name() -> None:
    """The digest is made of the keys that a config had before there were encoders."""
    given = ("eval.every=1000", "eval.n_envs=2")  # other values than the defaults, which digests leave out
    spec = load_config("quickstart", *given)
    aside: dict[str, Any] = dict.fromkeys((*fields_of(Part.PLACE, Part.CADENCE), "encoder"), True)
    content = spec.model_dump(mode="json", exclude={**aside, "env": set(KNOWN_SCORES)})
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    assert spec.digest() == load_config("quickstart", *given, "encoder=flat").digest() == digest
    assert load_config("quickstart", *given, "encoder=last").digest() != digest


def test_an_agents_file_may_have_an_encoder(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("algorithm: ppo\ntorso: residual\nencoder: {kind: gru, width: 8}\n")
    spec = load_config("quickstart", f"agent={path}", "encoder.depth=2")
    assert spec.encoder == GRUEncoderSpec(width=8, depth=2)


@pytest.mark.parametrize("encoder", SMALL.values(), ids=SMALL)
def test_a_resolved_config_reads_back_as_itself(encoder: dict[str, Any], tmp_path: Path) -> None:
    spec = load_config("quickstart", "env=hopper_masked", f"encoder={json.dumps(encoder)}")
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    assert load_config(str(path)) == spec


def test_sizes_name_the_encoder() -> None:
    sizes = parameters_by_role(load_config("quickstart", "env=hopper_masked", "encoder={kind: gru, width: 8}"))
    assert sizes["encoder"] == 3 * 8 * (5 + 8 + 2)
    assert "encoder" not in parameters_by_role(load_config("quickstart"))


def test_the_schema_has_every_kind_with_its_options() -> None:
    for kind in (Kind.config, Kind.agent):
        bare, options = schema_of(kind)["properties"]["encoder"]["anyOf"]
        assert bare["enum"] == options["properties"]["kind"]["enum"] == list(ENCODER_KINDS)
        assert {"width", "depth"} <= options["properties"].keys()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoder=grus", "encoder: unknown name 'grus'; did you mean 'gru'"),
        ("encoder=[1]", "encoder: expected an encoder's kind or a mapping"),
        ("encoder={kind: gru, widht: 4}", "encoder.widht: unknown key; did you mean 'width'"),
        ("encoder={kind: gru, width: 0}", "encoder.width: input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_encoder_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", override)
    assert str(caught.value).startswith(f"command line: {message}")
    assert "\n" not in str(caught.value)


# In policies


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_observations_that_are_no_histories_are_refused(algorithm: Any) -> None:
    for observation, shown in (("Box", "Box"), ("Dict", "Dict"), ("image", "Box(0, 255")):
        with pytest.raises(
            ConfigError, match=r"^encoder: gru reads histories, Box observations \[T, d\]; got "
        ) as caught:
            make_flat(BY_ALGORITHM[algorithm], observation, encoder="gru")
        assert f"got {shown}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_encoder_and_an_extractor_of_the_users_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^features_extractor_class: an encoder stands in its place"):
        make(BY_ALGORITHM[PPO], "gru", features_extractor_class=CombinedExtractor)


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_flat_is_the_policy_without_the_option(algorithm: Any) -> None:
    one, other = (make_flat(BY_ALGORITHM[algorithm], **given).policy for given in ({}, {"encoder": "flat"}))
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "encoder" not in one._get_constructor_parameters()
    batch = np.zeros((2, *one.observation_space.shape), np.float32)
    assert np.array_equal(one.predict(batch, deterministic=True)[0], other.predict(batch, deterministic=True)[0])
