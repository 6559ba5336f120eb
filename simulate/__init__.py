"""Simulated fleets: many agents over real connections, with books that are checked against the manager's, id by id.

It speaks the contract of `schemas` and imports neither the manager nor the guard.
"""

from simulate.errors import PlanError, SimulationError, UnreachableError
from simulate.fleet import Progress
from simulate.plan import Plan
from simulate.result import Result
from simulate.simulation import Simulation, run

__all__ = ["Plan", "PlanError", "Progress", "Result", "Simulation", "SimulationError", "UnreachableError", "run"]
