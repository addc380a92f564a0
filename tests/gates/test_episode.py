"""Gates along one episode."""

from __future__ import annotations

import numpy as np
import pytest

from deltarl import load_config
from deltarl.gates.episode import draw_episode, play_episode
from deltarl.training.build import built

SMALL = ("torso.width=8", "torso.depth=2", "env.n_envs=1", "device=cpu")
RUNS = {
    "ppo-hopper": ((), {"reward", "speed", "contact force"}, {"policy", "value"}),
    "sac-reacher": (("agent=sac", "env=reacher"), {"reward", "contact force"}, {"actor", "qf0", "qf1"}),
    "recurrent_ppo-hopper": (("agent=recurrent_ppo",), {"reward", "speed", "contact force"}, {"policy", "value"}),
    "dqn-pendulum": (("agent=dqn", "env=inverted_pendulum_discrete"), {"reward", "contact force"}, {"q"}),
    "her-fetch_reach": (
        ("agent=sac_her", "env=fetch_reach", "agent.learning_starts=100"),
        {"reward", "distance to goal", "contact force"},
        {"actor", "qf0", "qf1"},
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_an_episode_has_its_gates_and_what_the_agent_does(name: str) -> None:
    settings, curves, networks = RUNS[name]
    spec = load_config("quickstart", *settings, *SMALL)
    with built(spec, seed=0) as (model, normalizer):
        episode = play_episode(model.policy, spec.env, normalizer, seed=1_000_000)
        again = play_episode(model.policy, spec.env, normalizer, seed=1_000_000)
    assert set(episode.curves) == curves
    assert set(episode.beta) == networks
    length = len(episode.curves["reward"])
    assert length > 1
    for network, gates in episode.erase_share.items():
        assert gates.shape == (length, 2)
        assert ((gates > 0) & (gates < 1)).all()
        assert np.array_equal(gates, again.erase_share[network])
    for network, gates in episode.beta.items():
        assert gates.shape == (length, 2)
        assert np.allclose(gates, 0.5)  # where gates start
        assert np.array_equal(gates, again.beta[network])
    assert all(np.isfinite(values).all() and len(values) == length for values in episode.curves.values())
    figure = draw_episode(episode)
    # Beta and erase share of each network, on separate scales.
    assert len(figure.axes) == 4 * len(networks) + len(curves)
