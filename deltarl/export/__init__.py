"""Deployed policies: one file or module from raw observations to actions in the environment's units."""

from typing import TYPE_CHECKING

from deltarl import lazily

if TYPE_CHECKING:
    from deltarl.export.onnx_file import read_onnx
    from deltarl.export.pack import pack_run
    from deltarl.export.player import Player
    from deltarl.export.playing import evaluate_onnx
    from deltarl.export.policy import PolicyModule, policy_module
    from deltarl.export.runs import export_run
    from deltarl.export.write import save_policy
else:
    __getattr__, __dir__ = lazily.names(
        __name__,
        {
            "PolicyModule": "deltarl.export.policy",
            "Player": "deltarl.export.player",
            "evaluate_onnx": "deltarl.export.playing",
            "export_run": "deltarl.export.runs",
            "pack_run": "deltarl.export.pack",
            "policy_module": "deltarl.export.policy",
            "read_onnx": "deltarl.export.onnx_file",
            "save_policy": "deltarl.export.write",
        },
    )

__all__ = [
    "Player",
    "PolicyModule",
    "evaluate_onnx",
    "export_run",
    "pack_run",
    "policy_module",
    "pull_pack",
    "push_pack",
    "read_onnx",
    "save_policy",
]
