"""Hindsight replay on FetchReach with TQC, from a config: train, and evaluate on other episodes.

Example: python examples/her.py --steps 20000
"""

import argparse

import deltarl

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train TQC with hindsight replay on FetchReach.")
    parser.add_argument("--steps", type=int, default=20_000, help="training steps")
    steps = parser.parse_args().steps

    # `deltarl show fetch_reach_tqc_her` prints all settings.
    spec = deltarl.load_config(
        "fetch_reach_tqc_her",
        f"total_timesteps={steps}",
        f"agent.learning_starts={min(1_000, steps // 2)}",
        "agent.her.n_sampled_goal=4",
        "name=her",
    )
    [result] = deltarl.train(spec)
    print(f"success {result.success_rate:.0%}, return {result.final_return_mean:.1f}, folder {result.folder}")

    scores = deltarl.evaluate(result.folder, episodes=5, seed=1_000_100)
    print(f"over 5 other episodes: success {scores.success_rate:.0%}")
