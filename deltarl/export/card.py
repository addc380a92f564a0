"""The card of a packed agent: a README that Hugging Face shows as a model card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltarl import yaml_text
from deltarl.comparison.statistics import mean
from deltarl.envs import ScoreSpec
from deltarl.export.scores import SeedScore, highest
from deltarl.gates import Record
from deltarl.gates.figures import gated_networks
from deltarl.training import Run
from deltarl.training.sizes import parameters_by_role

NOTHING = "\N{EN DASH}"
_GATES = {"beta_mean": "mean beta", "erase_share": "erase share", "update_ratio": "size of the update"}


@dataclass(frozen=True)
class Card:
    """What a card is written from.

    Attributes:
        own: the score of the policy in the archive, one of `scores`.
        known: scores of random actions and of the literature.
        provenance: as in the archive.
        config: the YAML in the archive.
    """

    run: Run
    own: SeedScore
    scores: tuple[SeedScore, ...]
    known: Mapping[str, ScoreSpec]
    gates: Record | None
    provenance: Mapping[str, Any]
    config: str
    has_curve: bool


def card_text(card: Card) -> str:
    """The card as Markdown, with the YAML header of a model card on Hugging Face."""
    spec = card.run.spec
    parts = [
        f"---\n{yaml_text.dump(_header(card))}---",
        f"# {spec.agent.algorithm.upper()} on {spec.env.id}",
        _introduction(card),
        "## Scores",
        _scores(card),
        *(["![Learning curve](curve.png)"] if card.has_curve else []),
        "## Networks",
        _networks(card),
        *_gates(card),
        "## Usage",
        _usage(card),
        "## Limits",
        _limits(card),
        "## Training",
        _training(card),
    ]
    return "\n\n".join(parts) + "\n"


def _header(card: Card) -> dict[str, Any]:
    spec, own = card.run.spec, card.own
    metrics = [
        {"type": "mean_reward", "value": f"{own.return_mean:.2f} +/- {own.return_std:.2f}", "name": "mean_reward"}
    ]
    if own.success_rate is not None:
        metrics.append({"type": "success_rate", "value": f"{own.success_rate:.2f}", "name": "success_rate"})
    return {
        "library_name": "deltarl",
        "tags": [
            *("deltarl", "stable-baselines3", "deep-reinforcement-learning", "reinforcement-learning"),
            *dict.fromkeys((spec.env.id, spec.agent.algorithm, spec.actor_torso.kind, spec.critic_torso.kind)),
        ],
        "model-index": [
            {
                "name": f"{spec.agent.algorithm.upper()} {_torsos(card)}",
                "results": [
                    {
                        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
                        "dataset": {"type": spec.env.id, "name": spec.env.id},
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }


def _torsos(card: Card) -> str:
    roles = [role for role in ("actor_torso", "critic_torso") if hasattr(card.run.policy, role)]
    spec = card.run.spec
    return ", ".join(dict.fromkeys(getattr(spec, role).label() for role in roles or ["critic_torso"]))


def _introduction(card: Card) -> str:
    spec, own = card.run.spec, card.own
    which = "the policy of the best evaluation, at" if card.run.best else "the final policy, after"
    encoder = "" if spec.encoder.kind == "flat" else f", behind the encoder {spec.encoder.label()}"
    return (
        f"A {spec.agent.algorithm.upper()} agent for `{spec.env.id}`, trained with deltarl, which builds the networks "
        "of Stable-Baselines3's policies from Delta residual blocks and their baselines. Torso: "
        f"{_torsos(card)}{encoder}. It contains {which} step {own.steps:,} of seed {own.seed}."
    )


def _scores(card: Card) -> str:
    has_success = card.own.success_rate is not None
    rows = [_row(f"**this policy** (seed {card.own.seed})", _score(card.own), card.own.success_rate)]
    if len(card.scores) > 1:
        found = mean(np.array([score.return_mean for score in card.scores]))
        interval = "" if found.low is None else f", 95% interval [{found.low:,.1f}, {found.high:,.1f}]"
        success = np.mean([score.success_rate or 0.0 for score in card.scores]) if has_success else None
        rows.append(_row(f"mean of {len(card.scores)} seeds", f"{found.estimate:,.1f}{interval}", success))
    rows += [_row(name, _known(score), score.success_rate) for name, score in card.known.items()]
    head = _row("", "return", "success rate")
    table = [head, _row("---", "---", "---"), *rows]
    if not has_success:
        table = [line.rsplit("|", 2)[0] + "|" for line in table]
    return "\n\n".join(["\n".join(table), *_remarks(card)])


def _row(name: str, score: str, success: Any) -> str:
    told = "" if success is None else success if isinstance(success, str) else f"{success:.2f}"
    return f"| {name} | {score} | {told} |"


def _score(score: SeedScore) -> str:
    return f"{score.return_mean:,.1f} ± {score.return_std:,.1f} over {_episodes(score)}"


def _episodes(score: SeedScore) -> str:
    return f"{score.episodes} episode{'s' if score.episodes > 1 else ''}"


def _known(score: ScoreSpec) -> str:
    spread = "" if score.std is None else f" ± {score.std:,.1f}"
    return f"{score.mean:,.1f}{spread} ({score.source})"


def _remarks(card: Card) -> Iterator[str]:
    interval = "" if len(card.scores) == 1 else ", and the interval is Student's t over seeds"
    success = card.run.spec.env.success
    rule = "" if success is None else f" Success is {'at any step' if success.rule == 'any' else 'at the last step'}."
    yield (
        "Returns are of complete episodes with deterministic actions and the environment's own rewards, on seeds that "
        f"training never used; ± is the standard deviation over episodes{interval}.{rule}"
    )
    if card.run.best:
        yield (
            "The policy of the best evaluation was chosen by the same episodes that score it, so the score is "
            "optimistic; `deltarl evaluate` plays it on other seeds with `--seed`."
        )
    if len(card.scores) == 1:
        yield "One seed was trained, so nothing is known about the spread between seeds, which is often large."
        return
    each = ", ".join(f"{score.return_mean:,.0f} ({score.seed})" for score in card.scores)
    is_best = card.own == highest(card.scores)
    warning = "the best of them; another training gives a score like the mean's, not like this one"
    yield f"Mean returns of all seeds: {each}. The packed one is {warning if is_best else 'one of them'}."


def _networks(card: Card) -> str:
    spec = card.run.spec
    counts = parameters_by_role(spec)
    named = {"actor_torso": "actor", "critic_torso": "critic", "encoder": "encoder"}
    rows = [f"| {named[role]} | {getattr(spec, role).label()} | {count:,} |" for role, count in counts.items()]
    return "\n".join(["| network | kind | parameters |", "|---|---|---|", *rows])


def _gates(card: Card) -> Iterator[str]:
    record = card.gates
    if record is None or not (nets := gated_networks(record)):
        return
    columns = {
        name: heading for name, heading in _GATES.items() if any(f"gates/{net}/{name}" in record for net in nets)
    }
    rows = [f"| network | block | {' | '.join(columns.values())} |", "|---|---|" + "---|" * len(columns)]
    for net in nets:
        for block in range(record[f"gates/{net}/beta_mean"].shape[1]):
            cells = [_cell(record, f"gates/{net}/{name}", block) for name in columns]
            rows.append(f"| {net} | {block} | {' | '.join(cells)} |")
    yield "## Gates"
    yield (
        f"At step {record['steps'][-1]:,}. beta is the gate of a block's update: 0 keeps the state, 1 replaces what it "
        "has along the block's direction, 2 reflects it. The erase share is what a block erases of what it erases and "
        "writes; the size of the update is relative to the state's."
    )
    yield "\n".join(rows)


def _cell(record: Record, name: str, block: int) -> str:
    if name not in record or not np.isfinite(value := float(record[name][-1, block])):
        return NOTHING
    return f"{value:.2f}"


def _usage(card: Card) -> str:
    imports = [str(name) for name in card.provenance.get("imports", ())]
    own = (
        f"\n\nThe task or its blocks are not part of deltarl; give the author's module with "
        f"{' '.join(f'`--import {name}`' for name in imports)}."
        if imports
        else ""
    )
    return f"""The archive is called agent.zip here. With deltarl, which executes nothing that is in it:{own}

```bash
deltarl evaluate agent.zip --episodes 10
deltarl play agent.zip --video film.mp4{_lines(card)}
```

```python
import deltarl

run = deltarl.load_run("agent.zip", device="cpu")
print(deltarl.evaluate(run, episodes=1).return_mean)
```

With Stable-Baselines3: `run.policy` is a policy of Stable-Baselines3, and the algorithm takes its weights.

```python
import deltarl
from deltarl.agents import build_agent
from deltarl.envs import build_envs

run = deltarl.load_run("agent.zip", device="cpu")
envs = build_envs(run.spec.env, seed=0, n_envs=run.spec.env.n_envs)
model = build_agent(
    run.spec.agent, run.spec.actor_torso, run.spec.critic_torso, envs, seed=0, device="cpu", encoder=run.spec.encoder
)
model.policy.load_state_dict(run.policy.state_dict())
observations = envs.reset()
if run.normalizer is not None:
    observations = run.normalizer.normalize_obs(observations)
actions, _ = model.predict(observations, deterministic=True)
```

From ONNX: one file with the normaliser and the scale of the actions inside, which needs onnxruntime only.

```bash
deltarl export agent.zip agent.onnx
deltarl evaluate agent.onnx
```

To train a new run from the packed weights, or, without `init_from`, to repeat the training:

```bash
deltarl show agent.zip > agent.yaml
deltarl train agent.yaml init_from=agent.zip
```"""


def _lines(card: Card) -> str:
    has_gates = card.gates is not None and gated_networks(card.gates)
    return "\ndeltarl gates agent.zip" if has_gates else ""


def _limits(card: Card) -> str:
    spec, own = card.run.spec, card.own
    lines = [
        f"Trained and scored on `{spec.env.id}` only, in simulation, with the versions below. Not tested on other "
        "tasks, other physics, changed bodies or a robot.",
        "No noise, delay or disturbance beyond the task's own was tried.",
        f"The score is of {_episodes(own)} with deterministic actions; sampled actions score differently.",
        "The archive has no state to resume from: no optimizer, no replay buffer.",
        *own.notes,
    ]
    return "\n".join(f"- {line}" for line in lines)


def _training(card: Card) -> str:
    made = card.provenance
    packages = made.get("packages") or {}
    told = [f"Python {made['python']}"] if "python" in made else []
    told += [f"{name} {number}" for name, number in packages.items()]
    git = f" at commit `{made['git']}`" if made.get("git") else ""
    versions = f"Versions: {', '.join(told)}{git}." if told else "Versions were not recorded."
    return f"{versions}\n\n```yaml\n{card.config}```"
