"""The callback in a run: it does not affect learning, and warns once about what it cannot measure."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from stable_baselines3.common.logger import configure

from deltarl import ConfigError, load_config, train
from deltarl.checkpoints.state import capture, restore
from deltarl.gates import GateCallback, read_record
from deltarl.gates.callback import GateState, layout
from deltarl.gates.record import BINS
from deltarl.recording import metrics_in
from deltarl.recording.table import Table
from tests.gates.measured import DELTA, curves, of
from tests.policies.matrix import make


@pytest.mark.parametrize("algorithm", ["PPO", "SAC", "RecurrentPPO", "CrossQ", "DQN"])
def test_learning_is_the_same_to_the_last_bit(algorithm: str, tmp_path: Path) -> None:
    def learned(callback: Any) -> dict[str, torch.Tensor]:
        model = make(of(algorithm), torso=DELTA)
        model.set_logger(configure(str(tmp_path / str(callback is None)), ["tensorboard"]))
        model.learn(96, callback=callback)
        model.logger.close()
        return dict(model.policy.state_dict())

    callback = GateCallback(every=32, rows=8, path=tmp_path / "gates.npz")
    with_it, without = learned(callback), learned(None)
    assert len(read_record(tmp_path / "gates.npz")["steps"]) > 2
    for name, tensor in without.items():
        assert torch.equal(tensor, with_it[name]), name


@pytest.mark.parametrize("scalars", ["main", "all"])
def test_a_run_has_its_gates_in_tensorboard_and_in_its_records(scalars: str, tmp_path: Path) -> None:
    spec = load_config(
        "quickstart",
        "torso.width=12",
        "torso.depth=2",
        "torso.heads=2",
        "agent.n_steps=16",
        "agent.batch_size=32",
        "env.n_envs=2",
        "total_timesteps=128",
        "eval.episodes=1",
        "eval.every=null",
        "gates.every=32",
        "gates.rows=16",
        f"gates.scalars={scalars}",
        "device=cpu",
        "name=run",
        f"out={tmp_path}",
    )
    [result] = train(spec, Console(file=io.StringIO()))
    record = read_record(result.folder / "gates.npz")
    assert record["steps"].tolist() == [32, 64, 96, 128]
    assert record["gates/policy/beta_mean"].shape == (4, 2)
    assert record["gates_probe/value/beta_counts"].shape == (4, 2, 2, BINS)
    assert (record["gates/policy/beta_counts"].sum(-1) == 16).all()
    assert record["network/value/effective_rank"].shape == (4,)
    events = curves(result.folder)
    rows = [row for row in metrics_in(result.folder / "metrics.jsonl") if any(key.startswith("torso/") for key in row)]
    assert [row["step"] for row in rows] == [32, 64, 96, 128]
    for net in ("policy", "value"):
        for block in (0, 1):
            for name in ("beta_mean", "beta_std", "erase_share"):
                values = record[f"gates/{net}/{name}"][:, block]
                points = events.Scalars(f"torso/gates/{net}/{block}/{name}")
                assert [point.step for point in points] == [32, 64, 96, 128]
                assert np.array_equal(np.float32([point.value for point in points]), values)
                assert np.array_equal(np.float32([row[f"torso/gates/{net}/{block}/{name}"] for row in rows]), values)
            assert len(events.Histograms(f"torso/gates/{net}/{block}/beta")) == 4
    images = set(events.Tags()["images"])
    assert {f"torso/gates_figures/{name}" for name in ("beta", "blocks", "regimes", "eigenvalues")} <= images
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    measured = {tag for tag in events.Tags()["scalars"] if tag.startswith("torso/")}
    assert measured == {key for row in rows for key in row} - {"step", "wall_seconds"}
    tops = {tag.split("/")[1] for tag in measured}
    assert tops == ({"gates"} if scalars == "main" else {"gates", "gates_probe", "network"})
    assert len(measured) == 12 or scalars == "all"
    # Their tags come after those of evaluations and rollouts, and are not columns of the table, even a rebuilt one.
    assert max(tag for tag in events.Tags()["scalars"] if tag.split("/")[0] in {"eval", "rollout"}) < min(measured)
    table = (result.folder / "progress.csv").read_text()
    assert "torso/" not in table
    Table.open(result.folder).close()
    assert (result.folder / "progress.csv").read_text().count("\n") == table.count("\n")


def test_churn_is_how_far_outputs_on_the_fixed_batch_move(tmp_path: Path) -> None:
    model = make(of("SAC"), torso=DELTA)
    model.learn(40)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    callback = GateCallback(every=1, rows=8, scalars="all")
    callback.init_callback(model)
    head = model.policy.actor.mu
    for step in (1, 2, 3):
        callback.num_timesteps = step
        callback._on_rollout_end()
        if step == 1:
            with torch.no_grad():
                head.bias.add_(torch.tensor([3.0, 4.0]))
    model.logger.close()
    churn = callback.state.record["network/actor/churn"]
    assert np.isnan(churn[0])
    assert churn[1:] == pytest.approx([5, 0], abs=1e-5)
    assert callback.state.record["network/qf0/churn"][1:].tolist() == [0, 0]
    # Of Gaussians whose standard deviations stay, with one of each the squared distance in standard deviations / 2.
    kl = callback.state.record["network/actor/kl"]
    assert np.isnan(kl[0])
    with torch.no_grad():
        _, log_std, _ = model.policy.actor.get_action_dist_params(callback.state.probe["observations"].float())
    moved = torch.tensor([3.0, 4.0]) / log_std.exp()
    assert kl[1:] == pytest.approx([float(moved.square().sum(1).mean() / 2), 0], rel=1e-4, abs=1e-9)
    assert "network/qf0/kl" not in callback.state.record
    for name in ("churn", "kl"):
        assert [point.step for point in curves(tmp_path).Scalars(f"torso/network/actor/{name}")] == [2, 3]


@pytest.mark.parametrize(("algorithm", "net"), [("PPO", "value"), ("SAC", "qf0")])
def test_gradients_of_the_loss_are_in_tensorboard_and_in_the_record(algorithm: str, net: str, tmp_path: Path) -> None:
    model = make(of(algorithm), torso=DELTA)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    callback = GateCallback(every=16, rows=8, scalars="all")
    model.learn(48, callback=callback)
    model.logger.close()
    events = curves(tmp_path)
    for name in ("loss_grad_rms", "gate_loss_grad_rms"):
        values = callback.state.record[f"gates/{net}/{name}"]
        assert values.shape == (len(callback.state.record["steps"]), 2)
        assert (values > 0).all()
        assert [point.value for point in events.Scalars(f"torso/gates/{net}/1/{name}")] == values[:, 1].tolist()
        # Advantages and returns of the first rollout do not apply to later policies.
        assert (f"gates_probe/{net}/{name}" in callback.state.record) == (algorithm == "SAC")


@pytest.mark.parametrize("kind", ["residual", "plain", "mlp"])
def test_a_network_without_gates_has_what_exists_of_it(kind: str, tmp_path: Path) -> None:
    torso = {"kind": kind} if kind == "mlp" else {"kind": kind, "width": 12, "depth": 2}
    model = make(of("PPO"), torso=torso)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    callback = GateCallback(every=16, rows=8)
    model.learn(64, callback=callback)
    model.logger.close()
    keys = callback.state.record.keys()
    assert ("gates/policy/update_ratio" in keys) == (kind != "mlp")
    assert "network/policy/effective_rank" in keys
    assert not any("beta" in key for key in keys)


def test_what_is_gathered_survives_an_interruption_and_older_checkpoints_have_none() -> None:
    state, fresh = GateState(), GateState()
    state.pending = {"observations": torch.ones(3, 2)}
    restore(fresh, capture(state))
    assert torch.equal(fresh.pending["observations"], torch.ones(3, 2))  # type: ignore[index]
    del state.pending
    fresh = GateState()
    restore(fresh, capture(state))
    assert fresh.pending is None


def test_a_warning_says_that_nothing_was_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = make(of("PPO"), torso=DELTA)
    model.set_logger(configure(str(tmp_path), []))
    model.learn(32, callback=GateCallback(rows=1_000))
    assert "nothing was measured: training ended before there were 1,000 observations (rows)" in caplog.text


def test_a_second_learn_starts_a_new_measurement_unless_it_continues(tmp_path: Path) -> None:
    model = make(of("PPO"), torso=DELTA)
    callback = GateCallback(every=1, rows=8, path=tmp_path / "new" / "folder" / "gates.npz")

    def steps(**options: Any) -> list[int]:
        model.learn(16, callback=callback, **options)
        return read_record(callback.path).pop("steps").tolist()  # type: ignore[arg-type]

    once = steps()
    assert once[-1] == 16
    more = steps(reset_num_timesteps=False)
    assert (more[: len(once)], more[-1]) == (once, 32)
    assert steps() == [*more, *(32 + step for step in once)]
    model = make(of("PPO"), torso=DELTA)
    assert steps()[-len(once) :] == [48 + step for step in once]
    # A model of another shape gets a new record; one with other spaces also gets a new fixed batch.
    model = make(of("PPO"), torso={**DELTA, "depth": 3})
    assert steps() == once
    assert callback.state.record["gates/policy/beta_mean"].shape[1] == 3
    model = make(of("DQN"), torso=DELTA)
    model.learn(16, callback=callback)
    assert "gates_probe/q/beta_mean" in callback.state.record
    assert "gates/policy/beta_mean" not in callback.state.record


def test_an_unwritable_record_is_reported_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = make(of("PPO"), torso=DELTA)
    with pytest.raises(ConfigError, match=r"^GateCallback: path: .* cannot be used: .*file is not a folder"):
        model.learn(16, callback=GateCallback(path=tmp_path / "file" / "gates.npz"))
    assert model.num_timesteps == 0


def test_non_finite_statistics_are_warned_of_once_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make(of("PPO"), torso=DELTA)
    model.learn(16)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    callback = GateCallback(every=1, rows=8)
    callback.init_callback(model)
    extractor = model.policy.mlp_extractor

    def measured(*steps: int) -> None:
        for step in steps:
            callback.num_timesteps = step
            callback._on_rollout_end()

    with torch.no_grad():
        extractor.value_net[0].blocks[1].write.bias.fill_(float("nan"))
    measured(1, 2, 3)
    messages = [message for message in caplog.messages if "beta_mean" in message]
    assert messages == ["gates, step 1: gates/value/1/beta_mean is nan; such values are skipped"]
    with torch.no_grad():
        extractor.policy_net[0].blocks[1].write.bias.fill_(float("nan"))
    measured(4, 5)
    failed = [message for message in caplog.messages if "cannot be measured" in message]
    assert failed[0].startswith("gates, step 4: gates cannot be measured: Expected parameter loc")
    model.logger.close()
    tags = curves(tmp_path).Tags()["scalars"]
    assert "torso/gates/value/1/beta_mean" not in tags
    assert "torso/gates/value/0/beta_mean" in tags
    assert callback.state.record["steps"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "expected every of at least"),
        ({"rows": 1}, "expected rows of at least"),
        ({"scalars": "most"}, "expected scalars to be main or all; got 'most'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"GateCallback: {message}"):
        GateCallback(**options)


def test_each_chart_has_a_line_for_each_block() -> None:
    charts = layout(["actor", "qf0"], is_complete=True)
    assert charts["gates actor"]["actor: beta"] == r"^torso/gates/actor/\d+/beta_mean$"
    assert len(charts) == 4
    main = layout(["actor", "qf0"], is_complete=False)
    assert [len(titles) for titles in main.values()] == [3, 3]  # every chart has a line


def test_a_checkpoint_from_before_the_policy_was_kept_continues_exactly() -> None:
    older = GateState()
    older.next = 64
    vars(older).pop("policy", None)
    state = GateState()
    _, named = restore({"gates": state}, capture({"gates": older}))
    assert named == []
    assert (state.next, state.policy) == (64, None)
    state.policy = {"actor": torch.ones(2)}
    again, named = restore({"gates": GateState()}, capture({"gates": state}))
    assert named == []
    assert torch.equal(again["gates"].policy["actor"], torch.ones(2))
