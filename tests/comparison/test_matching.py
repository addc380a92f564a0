"""Arms of equal size."""

from __future__ import annotations

from typing import Literal

import pytest

from deltarl.comparison.matching import match_sizes
from deltarl.errors import ConfigError
from deltarl.library import load_config
from deltarl.training import RunSpec

SAC = ("hopper_sac", "torso.width=32", "torso.depth=1")


def arms(config: str, *common: str, **torsos: tuple[str, ...]) -> dict[str, RunSpec]:
    return {arm: load_config(config, *common, *overrides) for arm, overrides in torsos.items()}


def variants(*common: str) -> dict[str, RunSpec]:
    return arms(
        *common,
        residual=("torso=residual",),
        delta=(),
        heads=("torso.heads=8",),
        channels=("torso.channels=4",),
        lerp=("torso.update=lerp",),
        fixed=("torso.gate=fixed",),
        mlp=("torso=mlp", "torso.net_arch=[40,20]"),
    )


@pytest.mark.parametrize("common", [("quickstart",), SAC], ids=["ppo", "sac"])
def test_parameters_are_matched(common: tuple[str, ...]) -> None:
    _, sizes = match_sizes(variants(*common), "residual", "parameters")
    for size in sizes.values():
        assert size.mismatch is not None
        assert abs(size.mismatch) <= 0.02
        assert size.mismatch == pytest.approx(size.parameters / sizes["residual"].parameters - 1)


def test_flops_are_matched() -> None:
    _, sizes = match_sizes(variants("quickstart"), "residual", "flops")
    for size in sizes.values():
        assert size.flops == pytest.approx(sizes["residual"].flops, rel=0.02)


def test_a_count_by_hand() -> None:
    """PPO on Hopper: 11 observations, 3 actions; two torsos of 2 blocks of width 64 and inner width 128."""
    torso = (11 * 64 + 64) + 2 * (2 * 64 + (64 * 128 + 128) + (128 * 64 + 64)) + 2 * 64
    heads, log_std = (64 * 3 + 3) + (64 + 1), 3
    products = 2 * (2 * (11 * 64 + 2 * 2 * 64 * 128) + 64 * 3 + 64)
    _, sizes = match_sizes(
        arms("quickstart", residual=("torso=residual",), plain=("torso=plain",)), "residual", "width"
    )
    assert sizes["residual"].parameters == 2 * torso + heads + log_std
    assert sizes["residual"].flops == sizes["plain"].flops == products
    assert sizes["residual"].mismatch is None


def test_target_networks_are_not_counted() -> None:
    """SAC on Hopper: an actor with two heads and two critics, each 32 wide with one block of inner width 64."""
    torso = 2 * 32 + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 32
    actor = (11 * 32 + 32) + torso + 2 * (32 * 3 + 3)
    critic = ((11 + 3) * 32 + 32) + torso + (32 + 1)
    _, sizes = match_sizes(arms(*SAC, residual=("torso=residual",), plain=("torso=plain",)), "residual", "width")
    assert sizes["residual"].parameters == actor + 2 * critic


@pytest.mark.parametrize("match", ["parameters", "flops"])
def test_arms_that_differ_in_their_encoders_are_matched_by_the_encoder(match: Literal["parameters", "flops"]) -> None:
    common = ("env=hopper_masked", "torso.width=16", "encoder=history")
    found = arms(
        "quickstart",
        *common,
        residual=("encoder.update=residual",),
        delta=(),
        gru=("encoder=gru",),
        last=("encoder=last",),
    )
    specs, sizes = match_sizes(found, "residual", match)
    for arm in ("delta", "gru"):
        mismatch = sizes[arm].mismatch
        assert mismatch is not None
        assert abs(mismatch) <= 0.02
        assert specs[arm].encoder != found[arm].encoder
        assert sizes[arm].inner["encoder"] == specs[arm].encoder.inner
    assert specs["residual"] == found["residual"]
    assert specs["last"] == found["last"]  # it keeps its own size
    assert "encoder" not in sizes["last"].inner
    assert {spec.actor_torso for spec in specs.values()} == {found["residual"].actor_torso}


def test_the_flops_of_an_encoder_by_hand() -> None:
    """A history of 16 observations of 5 entries, width 4: stem, attention with all tokens, MLP with the newest."""
    encoder = "{kind: history, width: 4, attention_heads: 1, update: residual}"
    common = ("env=hopper_masked", "torso.width=16")
    _, sizes = match_sizes(
        arms("quickstart", *common, one=("encoder=last",), two=(f"encoder={encoder}",)), "one", "width"
    )
    attention = 16 * 4 * (3 * 4 + 4) + 2 * 16 * 16 * 4
    read = 16 * (4 - 5) * 2  # the torsos' stems read 4 features in place of 5
    assert sizes["two"].flops - sizes["one"].flops == 2 * (16 * 5 * 4 + attention + 2 * 4 * 8 + read)


def test_roles_keep_their_proportion() -> None:
    pair = arms(
        "quickstart",
        "torso.width=32",
        "critic_torso.hidden=256",
        residual=("torso=residual",),
        heads=("torso.heads=8",),
    )
    matched, _ = match_sizes(pair, "residual", "parameters")
    actor, critic = matched["heads"].actor_torso.hidden, matched["heads"].critic_torso.hidden  # type: ignore[union-attr]
    assert critic < 256
    assert actor == pytest.approx(critic * 64 / 256, abs=1)


def test_sb3s_own_mlp_stays_as_it_is_and_says_how_far_off() -> None:
    matched, sizes = match_sizes(
        arms("quickstart", residual=("torso=residual",), mlp=("torso=mlp",)), "residual", "flops"
    )
    assert matched["mlp"].actor_torso == load_config("quickstart", "torso=mlp").actor_torso
    assert sizes["mlp"].mismatch is not None
    assert sizes["mlp"].mismatch < -0.5


def test_the_reference_stays_as_it_is() -> None:
    pair = variants("quickstart")
    matched, sizes = match_sizes(pair, "delta", "parameters")
    assert matched["delta"] == pair["delta"]
    assert sizes["delta"].mismatch == 0


def test_what_cannot_be_matched_is_refused() -> None:
    """An inner width of 1 is the smallest, and one unit more is a large step in a narrow torso."""
    pair = arms("quickstart", small=("torso.width=8", "torso.hidden=1"), large=("torso.width=512",))
    with pytest.raises(ConfigError, match=r"arm large: its parameters cannot come closer to those of small than \+\d"):
        match_sizes(pair, "small", "parameters")
