"""The record of the gates, also of older versions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deltarl import ConfigError
from deltarl.gates import GateCallback, read_record
from deltarl.gates.figures import figures, gated_networks
from deltarl.gates.record import appended, without_erasure, write_record
from deltarl.gates.statistics import OF_ERASURE
from deltarl.training.folder import read_gates
from tests.gates.measured import DELTA, of
from tests.policies.matrix import make


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


def test_a_file_that_is_not_a_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "gates.npz").write_bytes(b"x")
    for name in ("gates.npz", "nothing.npz"):
        with pytest.raises(ConfigError, match=f"{name}: missing or damaged"):
            read_record(tmp_path / name)
