"""Requirements on every policy with a torso, for all algorithms, torsos and observations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import pytest
import torch
from sb3_contrib import CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.evaluation import evaluate_policy
from torch import Tensor, nn

from deltarl.torsos.layers import BatchRenorm
from tests.policies.checks import (
    assert_loads_the_same,
    delta_blocks,
    every_algorithm,
    in_turn,
    name_of,
    optimizers,
    owners,
    same_weights,
    snapshot,
    torsos,
)
from tests.policies.matrix import KINDS, SUBJECTS, Case, Subject, make, make_env, parameters


@dataclass(frozen=True)
class Trained:
    """A trained model of a case, with its parameters from before training."""

    case: Case
    model: Any
    before: dict[str, Tensor]


@pytest.fixture(scope="module", params=parameters())
def trained(request: pytest.FixtureRequest) -> Trained:
    case = request.param
    model = make(case.subject, case.observation, torso=case.torso)
    before = snapshot(model.policy)
    return Trained(case, model.learn(32), before)


def test_it_trains_and_every_parameter_moves(trained: Trained) -> None:
    model, case = trained.model, trained.case
    assert len(torsos(model)) == (0 if case.kind == "mlp" else number_of_networks(model))
    after = snapshot(model.policy)
    assert {name for name, tensor in after.items() if torch.equal(tensor, trained.before[name])} == set()
    assert all(tensor.isfinite().all() for tensor in after.values())


def test_a_trained_model_loads_bit_for_bit(trained: Trained, tmp_path: Path) -> None:
    assert_loads_the_same(trained.model, trained.case.subject, tmp_path)


def number_of_networks(model: BaseAlgorithm) -> int:
    """Number of actors, critics and target networks; each critic counts."""
    policy = model.policy
    if hasattr(policy, "mlp_extractor"):
        return 2
    if hasattr(policy, "critic"):
        targets = [name for name in ("actor_target", "critic_target") if hasattr(policy, name)]
        critics = len(policy.critic.q_networks)
        return 1 + critics + sum({"actor_target": 1, "critic_target": critics}[name] for name in targets)
    return 2


VARIANTS: dict[str, dict[str, Any]] = {
    "heads": {"heads": 4},
    "channels": {"channels": 3},
    "heads and channels": {"heads": 2, "channels": 2, "gate_layers": 2, "value": "sigmoid"},
    "generator": {"direction": "generator"},
    "fixed gate": {"gate": "fixed", "beta_init": 2.0},
    "write_only": {"update": "write_only"},
    "additive": {"update": "additive", "heads": 2},
    "lerp": {"update": "lerp"},
    "batch_renorm": {"norm": "batch_renorm"},
}


@pytest.mark.parametrize(("subject", "variant"), in_turn(VARIANTS))
def test_every_form_of_the_block_trains(subject: Subject, variant: str) -> None:
    model = make(subject, torso={"kind": "delta", "width": 16, "depth": 1, **VARIANTS[variant]})
    before = {name: tensor.clone() for name, tensor in model.policy.named_parameters()}
    model.learn(32)
    moved = {name for name, tensor in model.policy.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved == before.keys()


@every_algorithm
@pytest.mark.parametrize("beta_init", [0.3, 1.7])
def test_gates_start_at_beta_init_and_stems_as_the_torso_made_them(subject: Subject, beta_init: float) -> None:
    # Actor-critic policies re-initialise every Linear; a stem would then have a gain of sqrt(2).
    model = make(subject, torso={**KINDS["delta"], "beta_init": beta_init})
    assert delta_blocks(model)
    for block in delta_blocks(model):
        _, beta = block.value_and_gate(torch.randn(7, 16))
        torch.testing.assert_close(beta, torch.full_like(beta, beta_init))
    for torso in torsos(model):
        singular = torch.linalg.svdvals(torso.stem.weight)
        torch.testing.assert_close(singular, torch.ones_like(singular))


@every_algorithm
def test_one_line_gives_the_network_of_simba(subject: Subject) -> None:
    """It equals that of arXiv 2410.09754 layer by layer; CrossQ has batch renormalisation as its norm."""
    norm = BatchRenorm if subject.algorithm is CrossQ else nn.LayerNorm
    model = make(subject, torso={"kind": "residual", "hidden": 512})
    assert torsos(model)
    for torso in torsos(model):
        layers = [each for each in torso.modules() if not list(each.children()) and type(each) is not nn.Identity]
        assert [type(layer) for layer in layers] == [
            nn.Linear,
            *[norm, nn.Linear, nn.ReLU, nn.Linear] * 2,
            norm,
        ]
        linears = [layer.weight.shape for layer in layers if isinstance(layer, nn.Linear)]
        assert linears[1:] == [(512, 128), (128, 512)] * 2
        assert linears[0][0] == 128


@every_algorithm
def test_evaluate_policy_gives_the_same_score_twice(subject: Subject) -> None:
    model = make(subject, torso=KINDS["delta"])
    evaluate = evaluate_masked if subject.algorithm is MaskablePPO else evaluate_policy
    scores = []
    for _ in range(2):
        env = make_env("Box", subject.discrete)
        env.reset(seed=3)
        scores.append(evaluate(model, env, n_eval_episodes=2, warn=False))
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    "subject",
    [s for s in SUBJECTS if s.algorithm.__name__ in {"A2C", "PPO", "TRPO", "RecurrentPPO", "SAC", "TQC", "CrossQ"}],
    ids=name_of,
)
def test_gsde_trains_and_loads(subject: Subject, tmp_path: Path) -> None:
    model = make(subject, torso=KINDS["delta"], options={"use_sde": True, "sde_sample_freq": 4})
    before = snapshot(model.policy)
    model.learn(32)
    assert {name for name, tensor in snapshot(model.policy).items() if torch.equal(tensor, before[name])} == set()
    assert_loads_the_same(model, subject, tmp_path)


@every_algorithm
def test_a_schedule_reaches_every_parameter_group(subject: Subject) -> None:
    decay = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}
    model = make(subject, torso=KINDS["delta"], options={"learning_rate": lambda left: 1e-3 * left}, **decay)
    model.learn(32)
    rates = {group["lr"] for optimizer in optimizers(model) for group in optimizer.param_groups}
    assert len(rates) == 1
    assert 0 <= rates.pop() < 1e-3


@every_algorithm
def test_weight_decay_leaves_gates_norms_and_biases_alone_also_after_a_load(subject: Subject, tmp_path: Path) -> None:
    decay = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}
    model = make(subject, torso={**KINDS["delta"], "gate_layers": 2}, **decay)
    model.save(tmp_path / "model.zip")
    loaded = subject.algorithm.load(tmp_path / "model.zip", env=make_env("Box", subject.discrete), device="cpu")
    loaded.learn(32)
    marks = ("write", "gate_out", "norm", "bias", "log_std", "scale")
    for tested in (model, loaded):
        assert owners(tested)
        for owner in owners(tested):
            names = {id(parameter): name for name, parameter in owner.named_parameters()}
            decayed, spared = (
                {
                    names[id(parameter)]
                    for group in owner.optimizer.param_groups
                    if group["weight_decay"] == rate
                    for parameter in group["params"]
                    if id(parameter) in names
                }
                for rate in (0.1, 0.0)
            )
            assert decayed
            assert not decayed & spared
            assert all(any(mark in name for mark in marks) for name in spared)
            assert not any(any(mark in name for mark in ("gate", "norm", "bias", "write")) for name in decayed)
            held = [parameter for group in owner.optimizer.param_groups for parameter in group["params"]]
            assert len(held) == len({id(parameter) for parameter in held})


@pytest.mark.parametrize("case", parameters(where=lambda case: case.kind == "mlp"))
def test_an_mlp_torso_is_the_algorithms_own_policy_bit_for_bit(case: Case) -> None:
    subject = case.subject
    own = {"Box": "MlpPolicy", "Dict": "MultiInputPolicy", "image": "CnnPolicy"}[case.observation]
    if subject.algorithm is RecurrentPPO:
        own = own.replace("Policy", "LstmPolicy")
    ours = make(subject, case.observation, torso="mlp").learn(32)
    theirs = subject.algorithm(
        own,
        make_env(case.observation, subject.discrete),
        policy_kwargs=dict(subject.policy_kwargs),
        device="cpu",
        **{**subject.options, "seed": 0},
    ).learn(32)
    assert same_weights(ours.policy, theirs.policy)


@pytest.mark.parametrize(
    "case",
    parameters(
        [subject for subject in SUBJECTS if subject.has_actor],
        where=lambda case: case.kind == "delta",
        covering=lambda _: True,
    ),
)
def test_a_role_can_be_an_mlp_of_the_algorithms_own_widths_beside_a_torso(case: Case) -> None:
    own = make(case.subject, case.observation, torso="mlp").policy
    mixed = make(case.subject, case.observation, torso=case.torso, critic_torso="mlp").policy

    def widths(policy: Any) -> list[int]:
        network = policy.mlp_extractor.value_net if hasattr(policy, "mlp_extractor") else policy.critic.qf0
        return [module.out_features for module in network if isinstance(module, nn.Linear)]

    assert widths(mixed) == widths(own)


@pytest.mark.parametrize(
    "subject",
    [subject for subject in SUBJECTS if not subject.on_policy and "Dict" in subject.observations],
    ids=name_of,
)
def test_it_learns_from_relabelled_goals(subject: Subject) -> None:
    gym.register_envs(gymnasium_robotics)
    env: Any = BitFlippingEnv(n_bits=4, max_steps=5) if subject.discrete else "FetchReach-v4"
    model = subject.algorithm(
        "DeltaMultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 2},
        policy_kwargs={"torso": KINDS["delta"]},
        device="cpu",
        **{**subject.options, "seed": 0, "learning_starts": 60},
    )
    before = snapshot(model.policy)
    model.learn(70)
    assert {name for name, tensor in snapshot(model.policy).items() if torch.equal(tensor, before[name])} == set()
