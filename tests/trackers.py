"""Real trackers for tests, on this machine alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deltarl.recording.background import PATIENCE


@contextmanager
def offline(folder: Path) -> Iterator[str]:
    """W&B without a server, and MLflow with a store of files below `folder`; yields MLflow's tracking URI.

    MLflow's default, a database, takes seconds to create.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_DIR", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        for ending in PATIENCE:  # a busy machine may take its time to import them
            patch.setitem(PATIENCE, ending, 120.0)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB_CACHE_DIR", str(folder / "cache"))
        patch.setenv("WANDB_CONFIG_DIR", str(folder / "config"))
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_TRACKING_URI", uri := (folder / "mlruns").as_uri())
        yield uri
        import wandb  # noqa: PLC0415

        wandb.teardown()  # its service
