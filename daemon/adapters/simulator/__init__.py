"""A simulated fleet of pumps with known faults, for ``anomalyd demo`` and for tests.

``pumps`` is the physics, ``faults`` what goes wrong and when, ``fleet`` the bus and its records, ``scoring`` compares
alerts with the injected faults.
"""

from daemon.adapters.simulator.faults import FAULT_GAP_ROWS, FaultKind, InjectedFault
from daemon.adapters.simulator.fleet import Fleet, Tick
from daemon.adapters.simulator.pumps import NOISE, SENSORS, SPREAD
from daemon.adapters.simulator.scoring import FleetScore, KindScore, score

__all__ = [
    "FAULT_GAP_ROWS",
    "NOISE",
    "SENSORS",
    "SPREAD",
    "FaultKind",
    "Fleet",
    "FleetScore",
    "InjectedFault",
    "KindScore",
    "Tick",
    "score",
]
