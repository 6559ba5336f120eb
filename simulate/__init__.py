"""Simulated fleets: many agents over real connections; checks each report by id against the manager's store.

The simulator implements the contract of `schemas` and imports neither the manager nor the guard.
"""

from simulate.errors import PlanError, SimulationError, UnreachableError
from simulate.fleet import Progress
from simulate.plan import Plan
from simulate.result import Result
from simulate.simulation import Simulation, run

__all__ = ["Plan", "PlanError", "Progress", "Result", "Simulation", "SimulationError", "UnreachableError", "run"]
