"""Torso specs: accepted and refused values, and the messages."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from deltarl import ConfigError, DeltaTorsoSpec, MLPTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec
from deltarl.errors import Spec
from deltarl.torsos import FAMILIES, KINDS, TORSO_KINDS, merge_torso, parse_torso, torso_data

GOOD: list[dict[str, Any]] = [
    {"kind": "delta"},
    {"kind": "delta", "width": 8, "heads": 2},
    {"kind": "delta", "width": 64, "head_width": 16, "heads": 4, "value_start": 0.25, "beta_init": 0.5},
    {"kind": "delta", "channels": 2, "expand": "linear", "output_scale": 0.5},
    {"kind": "residual", "init_scale": 0.25, "output_scale": "mlp"},
    {"kind": "delta", "width": 4, "hidden": 1, "depth": 1},
    {"kind": "delta", "width": 12, "heads": 3, "channels": 4},
    {"kind": "delta", "beta_init": 0.5, "beta_max": 1.0},
    {"kind": "delta", "beta_init": 2.0, "gate": "fixed"},
    {"kind": "delta", "beta_init": 0.5, "beta_max": 0.5, "gate": "fixed"},
    {"kind": "delta", "gate_layers": 2, "value": "sigmoid", "direction": "generator"},
    {"kind": "delta", "update": "write_only", "beta_init": 0.1},
    {"kind": "delta", "update": "additive", "heads": 4, "channels": 2},
    {"kind": "delta", "update": "lerp"},
    {"kind": "delta", "update": "residual_erase", "heads": 4, "beta_init": 0.1, "gate_layers": 2},
    {"kind": "delta", "update": "orthogonal", "hidden": 7},
    {"kind": "delta", "sphere": True, "heads": 4, "value_start": 0.5},
    {"kind": "delta", "direction": "linear", "update": "write_only"},
    {"kind": "residual", "width": 64, "norm": "rms", "activation": "gelu"},
    {"kind": "plain", "norm": "batch_renorm", "eps": 0.1},
    {"kind": "delta", "products": 4, "heads": 2, "residual_scale": 1.0, "drop_path": 0.9, "sublayers": 4},
    {"kind": "delta", "norm": "none", "update": "orthogonal", "residual_scale": 0.1},
    {"kind": "delta", "update": "lerp", "norm_position": "post", "drop_path": 0.5},
    {"kind": "residual", "norm_position": "sandwich", "sublayers": 4, "activation": "silu"},
    {"kind": "plain", "norm_position": "post", "sublayers": 2},
    {"kind": "mlp"},
    {"kind": "mlp", "net_arch": (64, 32), "activation": "tanh"},
]
BETA_RANGE = (
    "expected beta_init strictly between 0 and beta_max = {}, because the gate is beta_max * sigmoid(.); got {}"
)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"heads": 3}, "heads: 3 heads do not divide width 128; use one of 1, 2, 4, 8, 16, 32"),
    ({"width": 8, "heads": 4}, "heads: 4 heads leave fewer than 4 features per head at width 8; use one of 1, 2"),
    ({"head_width": 7}, "head_width: heads of 7 features do not divide width 128; use one of 4, 8, 16, 32, 64, 128"),
    ({"head_width": 3}, "head_width: input should be greater than or equal to 4; got 3"),
    (
        {"width": 64, "head_width": 16, "heads": 8},
        "heads: 8 heads at width 64 have 8 features each, but head_width is 16; give only one of the two",
    ),
    ({"value_start": 0}, "value_start: input should be greater than 0; got 0"),
    (
        {"value_start": 0.5, "value": "sigmoid"},
        "value_start: value_start has no effect with value sigmoid; leave it out",
    ),
    ({"sphere": True, "channels": 2}, "sphere: sphere supports only one channel; got channels = 2"),
    (
        {"sphere": True, "value": "sigmoid"},
        "value: sphere already bounds the value; leave sigmoid out",
    ),
    (
        {"direction": "linear", "hidden": 7},
        "hidden: hidden has no effect with direction linear; leave it out",
    ),
    (
        {"direction": "linear", "activation": "tanh"},
        "activation: activation has no effect with direction linear; leave it out",
    ),
    ({"products": 0}, "products: input should be greater than or equal to 1; got 0"),
    ({"products": 5}, "products: input should be less than or equal to 4; got 5"),
    ({"sublayers": 0}, "sublayers: input should be greater than or equal to 1; got 0"),
    ({"drop_path": 1}, "drop_path: input should be less than 1; got 1"),
    ({"drop_path": -0.1}, "drop_path: input should be greater than or equal to 0; got -0.1"),
    ({"residual_scale": 0}, "residual_scale: input should be greater than 0; got 0"),
    ({"residual_scale": 1.5}, "residual_scale: input should be less than or equal to 1; got 1.5"),
    ({"norm_position": "psot"}, "norm_position: 'psot' is not one of pre, post, sandwich"),
    (
        {"norm_position": "post", "norm": "none"},
        "norm_position: norm_position has no effect with norm none; leave it out",
    ),
    (
        {"norm_position": "post", "channels": 2},
        "norm_position: norm_position post cannot be combined with channels = 2",
    ),
    (
        {"norm_position": "post", "sphere": True},
        "norm_position: norm_position post cannot be combined with a sphere, which normalises the state itself",
    ),
    (
        {"direction": "linear", "sublayers": 2},
        "sublayers: sublayers has no effect with direction linear; leave it out",
    ),
    *(
        (
            {"kind": "residual", "init_scale": 0.5, option: value},
            "init_scale: init_scale is for a sublayer that ends in a Linear; leave it out with "
            f"{option} {value}, or use residual_scale",
        )
        for option, value in (("sublayers", 2), ("norm_position", "sandwich"))
    ),
    *(
        (
            {"kind": "plain", option: 0.5},
            f"{option}: {option} has no effect with kind plain; leave it out",
        )
        for option in ("residual_scale", "drop_path")
    ),
    ({"expand": "linear"}, "expand: expand has no effect with a single channel; leave it out"),
    ({"kind": "residual", "init_scale": 0}, "init_scale: input should be greater than 0; got 0"),
    (
        {"kind": "plain", "init_scale": 1},
        "init_scale: unknown key; did you mean 'output_scale'?",
    ),
    ({"output_scale": -1}, "output_scale: input should be greater than 0; got -1"),
    ({"heads": 0}, "heads: input should be greater than or equal to 1; got 0"),
    ({"channels": 0}, "channels: input should be greater than or equal to 1; got 0"),
    ({"width": 3}, "width: input should be greater than or equal to 4; got 3"),
    ({"width": 3, "heads": 3}, "width: input should be greater than or equal to 4; got 3"),
    ({"width": 8.5}, "width: input should be a valid integer, got a number with a fractional part; got 8.5"),
    ({"depth": 0}, "depth: input should be greater than or equal to 1; got 0"),
    ({"hidden": 0}, "hidden: input should be greater than or equal to 1; got 0"),
    ({"eps": 0}, "eps: input should be greater than 0; got 0"),
    ({"eps": 0.2}, "eps: input should be less than or equal to 0.1; got 0.2"),
    ({"beta_init": 0}, "beta_init: input should be greater than 0; got 0"),
    ({"beta_init": 2}, f"beta_init: {BETA_RANGE.format(2, 2)}"),
    ({"beta_init": 2.5}, f"beta_init: {BETA_RANGE.format(2, 2.5)}"),
    ({"beta_max": 0.5}, f"beta_init: {BETA_RANGE.format(0.5, 0.5)}"),
    ({"beta_max": 2.1}, "beta_max: input should be less than or equal to 2; got 2.1"),
    ({"beta_init": 2.1, "gate": "fixed"}, "beta_init: expected a fixed gate's beta_init in (0, beta_max = 2], got 2.1"),
    ({"gate_layers": 2, "gate": "fixed"}, "gate_layers: gate_layers has no effect on a fixed gate; leave it out"),
    ({"gate_layers": 3}, "gate_layers: 3 is not one of 1, 2"),
    ({"beta_init": float("nan")}, "beta_init: input should be a finite number; got nan"),
    ({"eps": float("inf")}, "eps: input should be a finite number; got inf"),
    ({"activation": "rleu"}, "activation: 'rleu' is not one of relu, tanh, gelu, silu, elu"),
    ({"update": "ddl"}, "update: 'ddl' is not one of delta, write_only, additive, lerp, residual_erase, orthogonal"),
    ({"widht": 64}, "widht: unknown key; did you mean 'width'?"),
    ({"kind": "residual", "widht": 64}, "widht: unknown key; did you mean 'width'?"),
    ({"kind": "mlp", "width": 64}, "width: unknown key; known are kind, net_arch, activation"),
    ({"kind": "mlp", "net_arch": [64, 0]}, "net_arch.1: input should be greater than or equal to 1; got 0"),
    ({"kind": "dleta"}, "kind: unknown name 'dleta'; did you mean 'delta'?"),
    (
        {"kind": "qqq"},
        "kind: unknown name 'qqq'; known are delta, residual, plain, mlp, hyper, simbav2, bronet, custom",
    ),
]
UNREAD: list[tuple[str, dict[str, Any]]] = [
    ("additive", {"beta_init": 0.7}),
    ("additive", {"gate": "fixed"}),
    ("additive", {"gate_layers": 2}),
    ("additive", {"value": "sigmoid"}),
    ("additive", {"direction": "generator"}),
    ("additive", {"beta_max": 1.0}),
    ("additive", {"sphere": True}),
    *(
        ("residual_erase", options)
        for options in (
            {"channels": 2},
            {"value": "sigmoid"},
            {"value_start": 0.5},
            {"direction": "generator"},
            {"sphere": True},
        )
    ),
    *(("orthogonal", options) for options in ({"heads": 2}, {"beta_init": 0.7}, {"sphere": True})),
    *((update, {"products": 2}) for update in ("additive", "lerp", "residual_erase", "orthogonal")),
    ("lerp", {"residual_scale": 0.5}),
    ("lerp", {"heads": 2}),
    ("lerp", {"head_width": 8}),
    ("lerp", {"value_start": 0.5}),
    ("lerp", {"channels": 2}),
    ("lerp", {"beta_init": 0.7}),
    ("lerp", {"beta_max": 1.5}),
    ("lerp", {"gate": "fixed"}),
    ("lerp", {"gate_layers": 2}),
    ("lerp", {"value": "sigmoid"}),
    ("lerp", {"direction": "generator"}),
]


@pytest.mark.parametrize("data", GOOD, ids=str)
def test_good_options_are_kept_and_survive_json(data: dict[str, Any]) -> None:
    spec = parse_torso(data, "torso")
    assert {key: getattr(spec, key) for key in data} == data
    assert type(spec).model_validate(spec.model_dump(mode="json")) == spec
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
    assert parse_torso(spec.model_dump(mode="json"), "torso") == spec


@pytest.mark.parametrize(("data", "message"), BAD, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_bad_options_are_refused_in_one_line_with_the_correction(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_torso({"kind": "delta", **data}, "torso")
    assert str(caught.value) == f"torso.{message}"


@pytest.mark.parametrize(("update", "options"), UNREAD, ids=str)
def test_options_that_an_update_does_not_read_are_refused(update: str, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError) as caught:
        parse_torso({"kind": "delta", "update": update, **options}, "torso")
    assert str(caught.value) == f"torso.{name}: {name} has no effect with update {update}; leave it out"


@pytest.mark.parametrize("update", ["additive", "lerp", "residual_erase", "orthogonal"])
def test_what_earlier_versions_wrote_for_unread_options_is_taken(update: str) -> None:
    """Their resolved configs contain every option, with the defaults of that time."""
    written = {"head_width": None, "heads": 1, "beta_init": 1.0, "value_start": 1.0}
    spec = parse_torso({"kind": "delta", "update": update, **written}, "torso")
    assert spec.model_dump().items() >= written.items()


@pytest.mark.parametrize(
    ("sizes", "head_width", "heads", "beta_init"),
    [
        ({}, 16, 8, 0.5),
        ({"width": 64}, 16, 4, 0.5),
        ({"width": 12}, 12, 1, 0.5),
        ({"width": 100}, 10, 10, 0.5),
        ({"width": 97}, None, 1, 0.5),  # no divisor in the range
        ({"heads": 1}, None, 1, 0.5),
        ({"head_width": None}, None, 1, 0.5),
        ({"depth": 32}, 16, 8, 0.125),
        ({"depth": 32, "heads": 1}, None, 1, 0.5),
        ({"depth": 8, "products": 4}, 16, 8, 0.125),
    ],
    ids=str,
)
def test_defaults_of_a_delta_torso_follow_its_sizes(
    sizes: dict[str, Any], head_width: int | None, heads: int, beta_init: float
) -> None:
    spec = DeltaTorsoSpec(**sizes)
    assert (spec.head_width, spec.heads, spec.beta_init, spec.value_start) == (head_width, heads, beta_init, 0.25)
    assert parse_torso(spec.model_dump(), "torso") == spec


@pytest.mark.parametrize(
    ("base", "change", "head_width", "heads", "beta_init"),
    [
        ({"width": 64}, {"width": 100}, 10, 10, 0.5),
        ({"width": 64}, {"depth": 32}, 16, 4, 0.125),
        ({"width": 64}, {"heads": 2}, None, 2, 0.5),
        ({"width": 64, "head_width": 8}, {"width": 128}, 8, 16, 0.5),
        ({"width": 64, "heads": 1}, {"width": 128}, None, 1, 0.5),
        ({"width": 64, "heads": 1, "beta_init": 1.0}, {"depth": 32}, None, 1, 1.0),
    ],
    ids=str,
)
def test_defaults_follow_the_sizes_of_a_resolved_torso_that_is_changed(
    base: dict[str, Any], change: dict[str, Any], head_width: int | None, heads: int, beta_init: float
) -> None:
    spec = parse_torso(merge_torso(DeltaTorsoSpec(**base).model_dump(), change), "torso")
    assert isinstance(spec, DeltaTorsoSpec)
    assert (spec.head_width, spec.heads, spec.beta_init) == (head_width, heads, beta_init)


@pytest.mark.parametrize("option", ["torso", "critic_torso"])
def test_a_complaint_names_the_option_that_the_user_set(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{option}\.depth: "):
        parse_torso({"kind": "plain", "depth": 0}, option)
    with pytest.raises(ConfigError, match=rf"^{option}\.kind: missing$"):
        parse_torso({"depth": 1}, option)


def test_an_unknown_key_without_a_near_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"^torso\.xyzzy: unknown key; known are kind, width, depth, .*, update$"):
        parse_torso({"kind": "delta", "xyzzy": 1}, "torso")


@pytest.mark.parametrize("bad", [{"heads": 3}, {"beta_init": 0}, {"depth": 0}, {"widht": 64}, {"kind": "plain"}])
def test_a_spec_built_in_python_is_refused_with_a_validation_error(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DeltaTorsoSpec(**bad)


@pytest.mark.parametrize("spec", [DeltaTorsoSpec(), ResidualTorsoSpec(), PlainTorsoSpec(), MLPTorsoSpec()])
def test_specs_are_frozen_and_equal_specs_hash_alike(spec: Spec) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        spec.kind = "delta"  # type: ignore[attr-defined]
    assert hash(spec) == hash(type(spec)())


def test_kinds_are_listed_in_one_place() -> None:
    assert TORSO_KINDS == ("delta", "residual", "plain", "mlp", "hyper", "simbav2", "bronet")


@pytest.mark.parametrize("kind", ["delta", "residual", "plain"])
def test_hidden_is_twice_the_width_unless_given(kind: str) -> None:
    assert parse_torso({"kind": kind}, "torso").hidden == 256
    assert parse_torso({"kind": kind, "width": 20}, "torso").hidden == 40
    assert parse_torso({"kind": kind, "width": 20, "hidden": 7}, "torso").hidden == 7
    assert parse_torso({"kind": kind, "width": 20, "hidden": None}, "torso").hidden == 40


def test_hidden_is_written_as_it_was_given_and_compared_by_its_size() -> None:
    given, default = ResidualTorsoSpec(width=8, hidden=16), ResidualTorsoSpec(width=8, hidden=None)
    assert given == default == ResidualTorsoSpec(width=8)
    assert (given.model_dump()["hidden"], default.model_dump()["hidden"]) == (16, None)
    assert given.model_dump(mode="json") == default.model_dump(mode="json")
    assert merge_torso(given.model_dump(), {"width": 4})["hidden"] == 16
    assert parse_torso(merge_torso(default.model_dump(), {"width": 4}), "torso").hidden == 8
    assert default.scaled(0.5).model_dump()["hidden"] == 8


def test_one_list_has_all_kinds_and_each_has_a_name_of_its_own() -> None:
    assert list(KINDS.values()) == list(FAMILIES)
    assert [kind for kind in KINDS if kind not in TORSO_KINDS] == ["custom"]
    assert KINDS.keys() == {family.model_fields["kind"].default for family in FAMILIES}


@pytest.mark.parametrize(
    ("base", "change", "merged"),
    [
        ({"kind": "delta", "width": 64, "heads": 2}, "residual", {"kind": "residual", "width": 64}),
        ({"kind": "delta", "heads": 2}, "delta", {"kind": "delta", "heads": 2}),
        ({"kind": "delta", "heads": 2}, {"depth": 3}, {"kind": "delta", "heads": 2, "depth": 3}),
        ({"kind": "residual", "width": 64}, {"kind": "delta", "heads": 4}, {"kind": "delta", "width": 64, "heads": 4}),
        ({"kind": "delta", "heads": 2, "activation": "tanh"}, "mlp", {"kind": "mlp", "activation": "tanh"}),
        ({"kind": "mlp", "net_arch": [64]}, "plain", {"kind": "plain"}),
        ({"kind": "plain", "width": 64}, PlainTorsoSpec(depth=1), {"kind": "plain", "width": 64, "depth": 1}),
        ({"kind": "delta", "heads": 2}, ResidualTorsoSpec(width=32), {"kind": "residual", "width": 32}),
        ({"heads": 2}, {"width": 32}, {"kind": "delta", "heads": 2, "width": 32}),
        ({"kind": "delta", "heads": 2}, "dleta", {"kind": "dleta", "heads": 2}),
    ],
)
def test_a_change_keeps_what_both_kinds_have_and_drops_the_old_kinds_own(
    base: dict[str, Any], change: Any, merged: dict[str, Any]
) -> None:
    before = dict(base)
    assert merge_torso(base, change) == merged
    assert base == before


@pytest.mark.parametrize(
    ("base", "change", "heads"),
    [
        ({"width": 64, "head_width": 16}, {"width": 32}, 2),
        ({"width": 64, "head_width": 16}, {"heads": 2}, 2),
        ({"width": 64, "heads": 8}, {"head_width": 16}, 4),
        ({"width": 64, "heads": 8}, {"width": 128}, 8),
        ({"width": 64}, {"head_width": 32}, 2),
    ],
)
def test_the_newest_of_heads_and_their_width_holds(base: dict[str, Any], change: Any, heads: int) -> None:
    kept = DeltaTorsoSpec(**base).model_dump(exclude={"hidden"})  # as in a run's config.yaml
    assert parse_torso(merge_torso(kept, change), "torso").heads == heads


def test_a_changed_width_moves_a_hidden_that_was_not_given() -> None:
    assert parse_torso(merge_torso(torso_data(DeltaTorsoSpec(width=64)), {"width": 32}), "torso").hidden == 64


@pytest.mark.parametrize(
    ("torso", "data"),
    [
        ("plain", {"kind": "plain"}),
        ({"kind": "delta", "width": 8}, {"kind": "delta", "width": 8}),
        (DeltaTorsoSpec(width=8), {"kind": "delta", "width": 8}),
        (MLPTorsoSpec(), {"kind": "mlp"}),
    ],
    ids=str,
)
def test_kinds_mappings_and_specs_become_plain_data(torso: Any, data: dict[str, Any]) -> None:
    assert torso_data(torso) == data
