"""Delta residual policy and value networks for Stable-Baselines3, trained in MuJoCo.

Importing the package adds the policy aliases "DeltaPolicy", "DeltaCnnPolicy" and "DeltaMultiInputPolicy" to the
algorithms of Stable-Baselines3 and sb3-contrib, and "DeltaLstmPolicy" to RecurrentPPO. PyTorch and Stable-Baselines3
are imported when something first needs them, and the aliases are there as soon as the algorithms are.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

from deltarl import aliases, lazily

if TYPE_CHECKING:
    from deltarl import policies
    from deltarl.comparison import compare, load_comparison, write_report
    from deltarl.errors import ConfigError, NonFiniteError
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
    from deltarl.training import Evaluation, Run, RunResult, RunSpec, TrainingStopped, evaluate, load_run
else:
    _NAMES = {
        "deltarl.comparison": "compare load_comparison write_report",
        "deltarl.errors": "ConfigError NonFiniteError",
        "deltarl.functional": "delta_update",
        "deltarl.gates": "GateCallback",
        "deltarl.launch": "resume train",
        "deltarl.library": "load_config",
        "deltarl.schedules": "KLAdaptiveLearningRate",
        "deltarl.torsos": "CustomTorsoSpec DeltaBlock DeltaTorsoSpec MLPTorsoSpec PlainTorsoSpec ResidualBlock "
        "ResidualTorsoSpec Torso",
        "deltarl.training": "Evaluation Run RunResult RunSpec TrainingStopped evaluate load_run",
    }
    _SUBMODULES = "agents bench blocks comparison envs export fast gates launch policies specs torso torsos training"
    __getattr__, __dir__ = lazily.names(
        __name__,
        {name: module for module, names in _NAMES.items() for name in names.split()}
        | {name: f"{__name__}.{name}" for name in _SUBMODULES.split()},
    )

__version__ = version("deltarl")

aliases.add()

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
