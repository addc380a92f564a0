"""What Delta gates do during training: measured on a batch, logged by a callback."""

from deltarl.gates.callback import GateCallback
from deltarl.gates.drawing import Record
from deltarl.gates.gradients import Gradients
from deltarl.gates.interventions import intervene
from deltarl.gates.losses import loss_gradients
from deltarl.gates.measure import Batch, NetworkRecord, measure
from deltarl.gates.record import read_record, without_erasure
from deltarl.torsos import BlockRecord

__all__ = [
    "Batch",
    "BlockRecord",
    "GateCallback",
    "Gradients",
    "NetworkRecord",
    "Record",
    "intervene",
    "loss_gradients",
    "measure",
    "read_record",
    "without_erasure",
]
