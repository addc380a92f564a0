"""`deltarl doctor`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from deltarl import rendering
from deltarl.task_packages import FAMILIES

WITHOUT = {
    "imageio-ffmpeg": "not installed; for play --video FILE.mp4: pip install 'deltarl[video]'",
    "wandb": "not installed; for logging=[wandb]: pip install 'deltarl[wandb]'",
    "mlflow-skinny": "not installed; for logging=[mlflow]: pip install 'deltarl[mlflow]'",
    "huggingface-hub": "not installed; for push and pull: pip install 'deltarl[hub]'",
    "ray": "not installed; for --launcher ray: pip install 'deltarl[ray]'",
    "envpool": "not installed; for env.vectorization=envpool: pip install 'deltarl[envpool]'",
    **{
        name: f"not installed; for {family.title}: pip install 'deltarl[{family.extra}]'"
        for family in FAMILIES
        if family.extra
        for name in family.distributions
    },
}


def doctor() -> None:
    """Show versions, device and threads, and try to render a frame.

    Example: deltarl doctor
    """
    import torch

    from deltarl.training.provenance import EXTRA_PACKAGES, RECORDED_PACKAGES

    typer.echo(f"python              {platform.python_version()}")
    for package in (
        *RECORDED_PACKAGES,
        "tensorboard",
        "imageio-ffmpeg",
        "wandb",
        "mlflow-skinny",
        "huggingface-hub",
        "ray",
        *EXTRA_PACKAGES,
    ):
        typer.echo(f"{package:<19} {_version(package)}")
    typer.echo(f"\ndevice              {_device()}")
    typer.echo(f"cores               {os.cpu_count()}, {torch.get_num_threads()} PyTorch threads by default")
    chosen = os.environ.get("MUJOCO_GL")
    typer.echo(f"\nMUJOCO_GL           {chosen or 'not set'}")
    reasons = {backend: rendering.failure(backend) for backend in ([chosen] if chosen else rendering.BACKENDS)}
    for backend, reason in reasons.items():
        typer.echo(f"frame with {backend:<8} {'drawn' if reason is None else f'failed: {reason}'}")
    if all(reasons.values()):
        typer.echo(f"cannot render; {rendering.PACKAGES}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return WITHOUT.get(package, "not installed")


def _device() -> str:
    import torch

    if not torch.cuda.is_available():
        return "cpu; PyTorch finds no CUDA device"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"cuda: {', '.join(names)}"
