"""Delta residual policy and value networks for Stable-Baselines3, trained in MuJoCo.

Importing the package adds the policy aliases "DeltaPolicy", "DeltaCnnPolicy" and "DeltaMultiInputPolicy" to the
algorithms of Stable-Baselines3 and sb3-contrib, and "DeltaLstmPolicy" to RecurrentPPO.
"""

from importlib.metadata import version

from deltarl import policies
from deltarl.comparison import compare, load_comparison, write_report
from deltarl.errors import ConfigError
from deltarl.functional import delta_update
from deltarl.gates import GateCallback
from deltarl.launch import resume, train
from deltarl.library import load_config
from deltarl.schedules import KLAdaptiveLearningRate
from deltarl.torsos import (
    CustomTorsoSpec,
    DeltaBlock,
    DeltaTorsoSpec,
    MLPTorsoSpec,
    PlainTorsoSpec,
    ResidualBlock,
    ResidualTorsoSpec,
    Torso,
)
from deltarl.training import (
    Evaluation,
    NonFiniteError,
    Run,
    RunResult,
    RunSpec,
    TrainingStopped,
    evaluate,
    load_run,
)

__version__ = version("deltarl")

__all__ = [
    "ConfigError",
    "CustomTorsoSpec",
    "DeltaBlock",
    "DeltaTorsoSpec",
    "Evaluation",
    "GateCallback",
    "KLAdaptiveLearningRate",
    "MLPTorsoSpec",
    "NonFiniteError",
    "PlainTorsoSpec",
    "ResidualBlock",
    "ResidualTorsoSpec",
    "Run",
    "RunResult",
    "RunSpec",
    "Torso",
    "TrainingStopped",
    "compare",
    "delta_update",
    "evaluate",
    "load_comparison",
    "load_config",
    "load_run",
    "policies",
    "resume",
    "train",
    "write_report",
]
