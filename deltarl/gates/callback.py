"""The callback that measures gates during training."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from deltarl.errors import ConfigError
from deltarl.gates.batches import Fields, batch_of, from_buffer, joined, newest, size
from deltarl.gates.charts import MAIN, layout
from deltarl.gates.encoders import EncoderRecord, gated_encoders, measure_encoders
from deltarl.gates.figures import figures
from deltarl.gates.fresh import Sums, added, td_statistics
from deltarl.gates.gradients import Gradients
from deltarl.gates.losses import loss_gradients, values_and_targets
from deltarl.gates.measure import NetworkRecord, measure, networks
from deltarl.gates.record import SOURCES, appended, counts_of, write_record
from deltarl.gates.statistics import (
    block_statistics,
    divergence,
    neighbour_cosines,
    network_statistics,
)
from deltarl.places import check_file
from deltarl.recording import MEASURED, png_of, sinks_of
from deltarl.torsos import BlockRecord

log = logging.getLogger(__name__)

Scalars = Literal["main", "all"]


class GateState:
    """The state of a callback, as plain data for a checkpoint.

    Attributes:
        next: the step of the next measurement.
        probe: the fixed batch; None until it is chosen.
        outputs: outputs of each network on the fixed batch at the last measurement, `[rows, outputs]`; None before the
            first.
        policy: parameters of the action distributions there, by name; None if there are none.
        pending: rows of earlier rollouts; None if one rollout is enough.
        fresh: TD errors on new transitions since the last measurement; None if there are none.
        record: all measurements; the first axis is time.
    """

    # On the class, because checkpoints of older versions lack it.
    outputs: dict[str, torch.Tensor] | None = None
    policy: dict[str, torch.Tensor] | None = None
    pending: Fields | None = None
    fresh: Sums | None = None

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start again."""
        self.next = 0
        self.probe: Fields | None = None
        self.outputs = None
        for name in ("policy", "fresh"):  # older checkpoints lack them, and would not resume exactly with them
            vars(self).pop(name, None)
        self.pending = None
        self.record: dict[str, NDArray[Any]] = {}


class GateCallback(BaseCallback):
    """Measures the networks of a policy at intervals, and writes to TensorBoard and to a compact record.

    It measures on observations spread evenly over the rollout or replay buffer, as the policy sees them (`gates/...`),
    and on a fixed batch, the first of those (`gates_probe/...`). It does not change what is learned. The record has
    everything; TensorBoard and metrics.jsonl get the statistics chosen by `scalars`, with tags below `torso/`.

    Args:
        every: steps between two measurements, at least 1; measurements are made at the ends of rollouts.
        rows: number of observations to measure on, at least 2. If a rollout has fewer, several are combined; with a
            replay buffer, measurements start once it holds as many, or is full.
        path: file of the record, ending in .npz (see `read_record`); its folder is created. None for no record.
        scalars: `main` for mean and spread of beta and the erase share of each block, or `all` statistics.

    If `learn` is called again and counts its steps from 0, or with another model whose spaces and networks have the
    same shapes, it appends to the record and continues its steps; otherwise it starts a new record.

    Raises:
        ConfigError: if a number is too small; when training starts, if `path` cannot be written.
    """

    def __init__(
        self, every: int = 10_000, rows: int = 256, path: Path | str | None = None, scalars: Scalars = "main"
    ) -> None:
        super().__init__()
        for name, value, least in (("every", every, 1), ("rows", rows, 2)):
            if value < least:
                raise ConfigError(f"GateCallback: expected {name} of at least {least}; got {value}")
        if scalars not in get_args(Scalars):
            raise ConfigError(f"GateCallback: expected scalars to be {' or '.join(get_args(Scalars))}; got {scalars!r}")
        self.every, self.rows, self.path = every, rows, None if path is None else Path(path)
        self._is_complete = scalars == "all"
        self.state = GateState()
        self._said: set[str] = set()
        self._measured: BaseAlgorithm | None = None  # the model that the state belongs to
        self._steps = 0
        self._before = 0  # steps of the record that came before this model's first
        self._scalars: dict[str, float] = {}  # of the measurement in progress

    def _init_callback(self) -> None:
        if self.path is None:
            return
        check_file(self.path, "GateCallback: path")
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def _on_training_start(self) -> None:
        old, new = self._measured, self.model
        if old is not None and (old.observation_space, old.action_space) != (new.observation_space, new.action_space):
            self.state.clear()
        if old is not None and (old is not new or new.num_timesteps < self._steps):
            self.state.next, self.state.pending, self.state.outputs, self.state.policy = 0, None, None, None
            self.state.fresh = None
            self._before = int(self.state.record["steps"][-1]) if self.state.record else 0
        self._measured, self._steps = new, new.num_timesteps
        nets = [*networks(self.model.policy), *gated_encoders(self.model.policy)]
        charts = layout(nets, is_complete=self._is_complete)
        for sink in sinks_of(self.logger):
            sink.charts(charts)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        before, self._steps = self._steps, self.num_timesteps
        self._watch(self._steps - before)
        if self.num_timesteps < self.state.next:
            return
        fields = from_buffer(self.model, self.rows - size(self.state.pending))
        if fields is None:
            return
        fields = joined(self.state.pending, fields)
        if isinstance(self.model, OnPolicyAlgorithm) and size(fields) < self.rows:
            self.state.pending = fields
            return
        self.state.pending = None
        if self.state.probe is None:
            self.state.probe = _kept(self.model, fields)
        self.state.next = (self.num_timesteps // self.every + 1) * self.every
        row: dict[str, NDArray[Any]] = {"steps": np.array(self._before + self.num_timesteps)}
        self._scalars = {}
        for source, batch in zip(SOURCES, (fields, self.state.probe), strict=True):
            try:
                records = measure(self.model.policy, batch_of(batch))
                of_encoders = measure_encoders(self.model.policy, batch_of(batch))
                losses = loss_gradients(self.model, batch_of(batch))
            except ValueError as error:  # PyTorch's error for a distribution with NaN
                self._say(f"{source} cannot be measured: {str(error).splitlines()[0]}")
                return  # do not record part of a measurement
            for name, record in records.items():
                row |= self._blocks(f"{source}/{name}", record, losses.get(name))
                if source == "gates":
                    row |= self._network(f"network/{name}", record)
            row |= self._encoders(source, of_encoders)
            if source == "gates_probe":
                row |= self._churn(records)
            else:
                row |= self._td("", added({}, values_and_targets(self.model, batch_of(batch))))
        if self.state.fresh is not None:
            row |= self._td("fresh_", self.state.fresh)
            self.state.fresh = None
        self._send_scalars()
        if any(name in self.state.record and self.state.record[name].shape[1:] != row[name].shape for name in row):
            self._say("the networks have other shapes than before; starting a new record")
            self.state.record = {}
            row["steps"] = np.array(self.num_timesteps)
            self._before = 0
        self.state.record = appended(self.state.record, row)
        self.save()

    def _on_training_end(self) -> None:
        if not self.state.record and not self._said:
            log.warning(
                "gates, step %s: nothing was measured: training ended before there were %s observations (rows)",
                f"{self.num_timesteps:,}",
                f"{self.rows:,}",
            )

    def save(self) -> None:
        """Write the record, if there is a path for it and it is not empty."""
        if self.path is not None and self.state.record:
            write_record(self.path, self.state.record)

    def draw(self) -> None:
        """Send figures of the current record to TensorBoard (`torso/gates_figures/...`)."""
        for name, figure in figures(self.state.record).items():
            png, size = png_of(figure(self.state.record))
            for sink in sinks_of(self.logger):
                sink.figure(f"{MEASURED}gates_figures/{name}", png, size, self.num_timesteps)

    def _blocks(self, tag: str, record: NetworkRecord, loss: Gradients | None) -> dict[str, NDArray[Any]]:
        """Log the statistics of a network's blocks; return those for the record."""
        statistics = []
        cosines = neighbour_cosines(record)
        for index, block in enumerate(record.blocks):
            values = block_statistics(block)
            values |= {"grad_rms": record.gradients[index], "weight_norm": record.weight_norms[index]}
            if not math.isnan(rms := record.gate_gradients[index]):
                values["gate_grad_rms"] = rms
            if loss is not None:
                values["loss_grad_rms"] = loss.blocks[index]
                if not math.isnan(rms):
                    values["gate_loss_grad_rms"] = loss.gates[index]
            if index < len(cosines):
                values["cos_k_next"] = cosines[index]
            statistics.append(values)
        return self._row(tag, record.blocks, statistics)

    def _encoders(self, source: str, records: dict[str, EncoderRecord]) -> dict[str, NDArray[Any]]:
        row: dict[str, NDArray[Any]] = {}
        for name, record in records.items():
            tag = f"{source}/{name}"
            row |= self._row(tag, record.blocks, [block_statistics(block) for block in record.blocks])
            if (by_token := record.beta_by_token()) is not None:
                row[f"{tag}/beta_by_token"] = by_token.numpy()
        return row

    def _row(
        self, tag: str, blocks: Sequence[BlockRecord], statistics: Sequence[dict[str, float]]
    ) -> dict[str, NDArray[Any]]:
        columns: dict[str, list[float]] = {}
        for index, (block, values) in enumerate(zip(blocks, statistics, strict=True)):
            for name, value in values.items():
                columns.setdefault(name, [math.nan] * len(blocks))[index] = value
                self._scalar(f"{tag}/{index}/{name}", value)
            if block.beta is not None:
                self._histogram(f"{tag}/{index}/beta", block.beta)
        row: dict[str, NDArray[Any]] = {
            f"{tag}/{name}": np.array(values, np.float32) for name, values in columns.items()
        }
        counts = [counts_of(block.beta) for block in blocks if block.beta is not None]
        if not counts:
            return row
        most = max(map(len, counts))  # heads; the stages of an encoder may differ in their number
        return row | {f"{tag}/beta_counts": np.stack([np.pad(c, ((0, most - len(c)), (0, 0))) for c in counts])}

    def _network(self, tag: str, record: NetworkRecord) -> dict[str, NDArray[Any]]:
        values = network_statistics(record)
        for name, value in values.items():
            self._scalar(f"{tag}/{name}", value)
        return {f"{tag}/{name}": np.array(value, np.float32) for name, value in values.items()}

    def _watch(self, steps: int) -> None:
        """Note the TD errors on the transitions of the last `steps` steps, if they are among the newest `rows`.

        This is done before any update on them. A rollout may be an episode, of which the newest are taken.
        """
        model = self.model
        if not isinstance(model, OffPolicyAlgorithm) or steps < 1 or self.num_timesteps <= self.state.next - self.rows:
            return
        each = max(1, min(steps, self.rows) // model.n_envs)
        try:
            found = values_and_targets(model, batch_of(newest(model, each)))
        except ValueError as error:  # PyTorch's error for a distribution with NaN
            self._say(f"the TD error cannot be measured: {str(error).splitlines()[0]}")
            return
        if found:
            self.state.fresh = added(self.state.fresh or {}, found)

    def _td(self, prefix: str, sums: Sums) -> dict[str, NDArray[Any]]:
        """Log statistics of the TD error; return them for the record."""
        values = {
            f"network/{net}/{prefix}{name}": value
            for net, found in td_statistics(sums).items()
            for name, value in found.items()
        }
        for tag, value in values.items():
            if not math.isnan(value):
                self._scalar(tag, value)
        return {tag: np.array(value, np.float32) for tag, value in values.items()}

    def _churn(self, records: dict[str, NetworkRecord]) -> dict[str, NDArray[Any]]:
        """How far each network's output on the fixed batch, and the policy itself, moved; NaN the first time."""
        outputs = {name: record.output for name, record in records.items()}
        policy = next((record.policy for record in records.values() if record.policy is not None), None)
        before, self.state.outputs = self.state.outputs or {}, outputs
        policy_before, self.state.policy = self.state.policy, policy
        moved = {
            name: float((output - before[name]).flatten(1).norm(dim=-1).mean()) if name in before else math.nan
            for name, output in outputs.items()
        }
        values = {f"network/{name}/churn": value for name, value in moved.items()}
        if policy is not None:
            [name] = [name for name, record in records.items() if record.policy is not None]
            kl = math.nan if policy_before is None else float(divergence(policy_before, policy).mean())
            values[f"network/{name}/kl"] = kl
        for tag, value in values.items():
            if before and not (tag.endswith("/kl") and policy_before is None):
                self._scalar(tag, value)
        return {tag: np.array(value, np.float32) for tag, value in values.items()}

    def _scalar(self, tag: str, value: float) -> None:
        if not math.isfinite(value):
            self._say(f"{tag} is {value}; such values are skipped")
        elif self._is_complete or (tag.startswith("gates/") and tag.rpartition("/")[2] in MAIN):
            self._scalars[MEASURED + tag] = value

    def _send_scalars(self) -> None:
        """Send those of a measurement together, which makes them one row of metrics.jsonl."""
        for sink in sinks_of(self.logger) if self._scalars else ():
            sink.scalars(self._scalars, self.num_timesteps)

    def _histogram(self, tag: str, values: torch.Tensor) -> None:
        if not (values.numel() and torch.isfinite(values).all()):
            self._say(f"{tag} is not finite; no histogram")
            return
        for sink in sinks_of(self.logger) if self._is_complete or tag.startswith("gates/") else ():
            sink.histogram(MEASURED + tag, values, self.num_timesteps)

    def _say(self, message: str) -> None:
        """Warn once for each kind of message."""
        kind = message.rsplit("/", maxsplit=1)[-1]
        if kind not in self._said:
            self._said.add(kind)
            log.warning("gates, step %s: %s", f"{self.num_timesteps:,}", message)


def _kept(model: BaseAlgorithm, fields: Fields) -> Fields:
    """The fields kept in the fixed batch; advantages of the first rollout say nothing about the loss later on."""
    on_policy = isinstance(model, OnPolicyAlgorithm)
    return {name: values for name, values in fields.items() if not (on_policy and name == "training")}
