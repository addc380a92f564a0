"""The tasks that EnvPool supports, and their supported options."""

# The tests compare each with Gymnasium's task of the same id, step by step and for every option.
TASKS = (
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
)
OPTIONS = (
    "contact_cost_weight",
    "ctrl_cost_weight",
    "exclude_current_positions_from_observation",
    "forward_reward_weight",
    "frame_skip",
    "healthy_reward",
    "max_episode_steps",
    "reset_noise_scale",
    "terminate_when_unhealthy",
)
