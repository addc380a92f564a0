"""Play a policy from `deltarl export` with onnxruntime and NumPy; Gymnasium takes the place of the robot.

Example: python examples/deploy_onnx.py hopper.onnx
"""

import argparse

import gymnasium as gym
import numpy as np
import onnxruntime

parser = argparse.ArgumentParser(description="Play one episode of an exported policy.")
parser.add_argument("file", help="an .onnx file from `deltarl export`")
session = onnxruntime.InferenceSession(parser.parse_args().file)
inputs = {each.name: each for each in session.get_inputs()}
env = gym.make(session.get_modelmeta().custom_metadata_map["task"])

observation, _ = env.reset(seed=1_000_000)
# Only recurrent policies have states; they start as zeros.
states = {
    name: np.zeros([size if isinstance(size, int) else 1 for size in each.shape], np.float32)
    for name, each in inputs.items()
    if name.startswith("lstm_")
}
total, steps, ended = 0.0, 0, False
while not ended:
    seen = observation if isinstance(observation, dict) else {"observation": observation}
    batch = {name: np.asarray(array)[None] for name, array in seen.items()}
    actions, *after = session.run(None, batch | states)
    states = dict(zip(states, after, strict=True))
    observation, reward, terminated, truncated, _ = env.step(actions[0])
    total, steps, ended = total + float(reward), steps + 1, terminated or truncated
print(f"return {total:.1f} after {steps} steps")
