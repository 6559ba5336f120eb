"""Errors that end a simulation; each message says what to do."""


class SimulationError(Exception):
    """Root of all errors of `simulate`."""


class PlanError(SimulationError):
    """A plan is invalid."""


class UnreachableError(SimulationError):
    """The manager or its broker does not answer, or refuses the simulation."""
