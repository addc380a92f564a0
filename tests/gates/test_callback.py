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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deltarl import ConfigError, load_config, train
from deltarl.checkpoints.state import capture, restore
from deltarl.gates import GateCallback, measure, read_record
from deltarl.gates.batches import batch_of, from_buffer, joined, size
from deltarl.gates.callback import GateState, layout
from deltarl.gates.figures import figures, gated_networks
from deltarl.gates.record import BINS, appended, without_erasure, write_record
from deltarl.gates.statistics import OF_ERASURE, block_statistics
from deltarl.recording import metrics_in
from deltarl.recording.table import Table
from deltarl.training.folder import read_gates
from tests.policies.matrix import SUBJECTS, make

DELTA = {"kind": "delta", "width": 12, "depth": 2, "heads": 2}


def of(name: str) -> Any:
    return next(subject for subject in SUBJECTS if subject.name == name)


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


def curves(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    return events


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


def test_the_probe_stays_and_the_batch_moves(tmp_path: Path) -> None:
    model = make(of("PPO"), torso=DELTA)
    model.set_logger(configure(str(tmp_path), []))
    callback = GateCallback(every=1, rows=8)
    model.learn(16, callback=callback)
    probe = callback.state.probe
    assert probe is not None
    first = probe["observations"].clone()
    model.learn(64, callback=callback, reset_num_timesteps=False)
    assert torch.equal(callback.state.probe["observations"], first)  # type: ignore[index]
    now = from_buffer(model, 8)
    assert now is not None
    assert not torch.equal(now["observations"], first)
    # The last entry equals a measurement of both now, except for the update since.
    record = measure(model.policy, batch_of(probe))["policy"].blocks[1]
    assert callback.state.record["gates_probe/policy/beta_mean"].shape[1] == 2
    assert block_statistics(record)["beta_mean"] == pytest.approx(
        callback.state.record["gates_probe/policy/beta_mean"][-1, 1], abs=0.05
    )


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


def test_a_record_of_an_older_version_grows_on(tmp_path: Path) -> None:
    """Missing statistics are NaN in the old rows, those no longer measured are NaN in the new ones; no row is lost."""
    gone, new, counts = "network/policy/gone", "gates/policy/new", "gates/policy/beta_counts"
    histograms = np.arange(8, dtype=np.uint32).reshape(2, 2, 1, 2)
    older = {"steps": np.array([1, 2]), gone: np.float32([1, 2]), counts: histograms}
    row = {"steps": np.array(3), new: np.float32([5, 6])}
    record = appended(appended(older, row), row | {"steps": np.array(4)})
    assert record["steps"].tolist() == [1, 2, 3, 4]
    assert np.isnan(record[new][:2]).all()
    assert record[new][2:].tolist() == [[5, 6]] * 2
    assert record[gone][:2].tolist() == [1, 2]
    assert np.isnan(record[gone][2:]).all()
    assert record[counts].dtype == np.uint32
    assert record[counts].sum((1, 2, 3)).tolist() == [6, 22, 0, 0]
    write_record(tmp_path / "gates.npz", record)
    assert set(read_record(tmp_path / "gates.npz")) == {"steps", gone, counts, new}


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


def test_nothing_is_measured_before_the_buffer_holds_enough(tmp_path: Path) -> None:
    model = make(of("SAC"), torso=DELTA)
    model.set_logger(configure(str(tmp_path), []))
    callback = GateCallback(every=10, rows=40)
    model.learn(45, callback=callback)
    assert callback.state.record["steps"].tolist() == [40]
    model.learn(30, callback=callback, reset_num_timesteps=False)
    assert callback.state.record["steps"].tolist() == [40, 50, 60, 70]


@pytest.mark.parametrize("algorithm", ["A2C", "PPO", "RecurrentPPO"])
def test_rows_are_gathered_over_rollouts_where_one_has_fewer(algorithm: str, tmp_path: Path) -> None:
    model = make(of(algorithm), torso=DELTA)
    model.set_logger(configure(str(tmp_path), []))
    rollout = model.n_steps * model.n_envs
    callback = GateCallback(every=1, rows=2 * rollout + 1)
    model.learn(7 * rollout, callback=callback)
    assert callback.state.record["steps"].tolist() == [3 * rollout, 6 * rollout]
    assert (callback.state.record["gates/policy/beta_counts"].sum(-1) == 2 * rollout + 1).all()
    # The transitions gathered for the next measurement come from the last rollout.
    assert size(callback.state.pending) == rollout
    last = from_buffer(model, rollout)
    assert last is not None
    assert torch.equal(callback.state.pending["observations"], last["observations"])  # type: ignore[index]


def test_what_is_gathered_survives_an_interruption_and_older_checkpoints_have_none() -> None:
    state, fresh = GateState(), GateState()
    state.pending = {"observations": torch.ones(3, 2)}
    restore(fresh, capture(state))
    assert torch.equal(fresh.pending["observations"], torch.ones(3, 2))  # type: ignore[index]
    del state.pending
    fresh = GateState()
    restore(fresh, capture(state))
    assert fresh.pending is None


def test_rows_gathered_by_an_older_version_have_no_loss() -> None:
    new = {"observations": torch.zeros(2, 3), "training": {"returns": torch.zeros(2)}}
    assert joined({"observations": torch.zeros(1, 3)}, new).keys() == {"observations"}
    assert joined(new, new)["training"]["returns"].shape == (4,)


def test_joined_batches_are_one_behind_the_other() -> None:
    def fields(rows: int, value: float) -> dict[str, Any]:
        states = tuple((torch.full((2, rows, 3), value), torch.full((2, rows, 3), value)) for _ in range(2))
        observations = {"a": torch.full((rows, 4), value), "b": torch.full((rows, 1), value)}
        return {"observations": observations, "lstm_states": states, "episode_starts": torch.full((rows,), value)}

    both = joined(fields(2, 0.0), fields(3, 1.0))
    assert size(both) == 5
    assert both["episode_starts"].tolist() == [0, 0, 1, 1, 1]
    assert both["observations"]["a"].mean(1).tolist() == [0, 0, 1, 1, 1]
    assert both["lstm_states"][1][0].mean((0, 2)).tolist() == [0, 0, 1, 1, 1]
    assert joined(None, both) is both
    assert size(None) == 0


def test_a_replay_buffer_that_never_holds_as_many_rows_gives_all_it_has(tmp_path: Path) -> None:
    model = make(of("SAC"), torso=DELTA, options={"buffer_size": 20})
    model.set_logger(configure(str(tmp_path), []))
    callback = GateCallback(every=10, rows=40)
    model.learn(30, callback=callback)
    assert callback.state.record["steps"].tolist() == [20, 30]
    assert (callback.state.record["gates/actor/beta_counts"].sum(-1) == 20).all()


def test_what_was_never_measured_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = make(of("PPO"), torso=DELTA)
    model.set_logger(configure(str(tmp_path), []))
    model.learn(32, callback=GateCallback(rows=1_000))
    assert "nothing was measured: training ended before there were 1,000 observations (rows)" in caplog.text


def test_a_second_learn_is_measured_anew_and_one_that_continues_is_not(tmp_path: Path) -> None:
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


def test_a_record_that_cannot_be_written_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = make(of("PPO"), torso=DELTA)
    with pytest.raises(ConfigError, match=r"^GateCallback: path: .* cannot be used: .*file is not a folder"):
        model.learn(16, callback=GateCallback(path=tmp_path / "file" / "gates.npz"))
    assert model.num_timesteps == 0


def test_what_is_not_finite_is_said_once_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_of_blocks_that_only_write_no_erasure_is_recorded_or_drawn(tmp_path: Path) -> None:
    model = make(of("PPO"), torso=DELTA, actor_torso={"update": "write_only"})
    callback = GateCallback(every=16, rows=8, path=tmp_path / "gates.npz")
    model.learn(32, callback=callback)
    record = read_record(tmp_path / "gates.npz")
    assert gated_networks(record) == ["policy", "value"]
    assert gated_networks(record, statistic="erase_share") == ["value"]
    assert not any(f"gates/policy/{name}" in record for name in OF_ERASURE)
    drawn = {name: draw(record) for name, draw in figures(record).items()}
    assert set(drawn) == {"beta", "blocks", "regimes", "eigenvalues"}
    assert {axis.get_title() for axis in drawn["regimes"].axes} == {"value", ""}
    # Records of older versions have both; statistics of erasing are left out if the config says that nothing erases.
    older = record | {f"gates/policy/{name}": record[f"gates/value/{name}"] for name in OF_ERASURE}
    assert without_erasure(older, lambda net: net == "policy").keys() == record.keys()
    assert without_erasure(older, lambda _: False) == older
    assert set(figures(without_erasure(older, lambda _: True))) == {"beta", "blocks"}


@pytest.mark.parametrize(("arm", "erases"), [("delta", True), ("write_only", False)])
def test_what_older_versions_took_for_erasure_is_not_read_of_runs_that_only_write(arm: str, erases: bool) -> None:
    folder = Path(__file__).parents[2] / "results" / "compare" / "ppo_small" / "hopper" / arm / "seed-0"
    assert "gates/policy/erase_share" in read_record(folder / "gates.npz")
    assert ("gates/policy/erase_share" in read_gates(folder)) == erases
    assert "gates/policy/beta_mean" in read_gates(folder)


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


def test_a_record_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "gates.npz").write_bytes(b"x")
    for name in ("gates.npz", "nothing.npz"):
        with pytest.raises(ConfigError, match=f"{name}: missing or damaged"):
            read_record(tmp_path / name)


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
