"""Which statistics TensorBoard shows, and in which charts."""

from __future__ import annotations

from deltarl.gates.record import SOURCES
from deltarl.recording import MEASURED

MAIN = ("beta_mean", "beta_std", "erase_share")
# Charts with a line for each block: the statistic of each, by title.
CHARTS = {
    "beta": "beta_mean",
    "spread of beta": "beta_std",
    "erase share": "erase_share",
    "update ratio": "update_ratio",
    "readout error": "readout_error",
    "gate gradient of the loss": "gate_loss_grad_rms",
}


def layout(nets: list[str], *, is_complete: bool) -> dict[str, dict[str, str]]:
    """The charts for `Sink.charts`: one for each network and statistic, with a line for each block."""
    charts = {title: name for title, name in CHARTS.items() if is_complete or name in MAIN}
    return {
        f"{source} {net}": {
            f"{net}: {title}": rf"^{MEASURED}{source}/{net}/\d+/{name}$" for title, name in charts.items()
        }
        for source in (SOURCES if is_complete else SOURCES[:1])
        for net in nets
    }
