"""What Delta gates do while an agent learns: measured on a batch, logged by a callback."""

from deltarl.gates.callback import GateCallback, read_record
from deltarl.gates.measure import Batch, BlockRecord, NetworkRecord, measure

__all__ = ["Batch", "BlockRecord", "GateCallback", "NetworkRecord", "measure", "read_record"]
