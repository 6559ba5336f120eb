"""Errors that end a simulation, each in one sentence that says what to do."""


class SimulationError(Exception):
    """Root of what `simulate` raises."""


class PlanError(SimulationError):
    """A plan cannot be carried out as it was given."""


class UnreachableError(SimulationError):
    """The manager or its broker does not answer, or refuses the simulation altogether."""
