"""How many agents make an incident, and how much of the past is remembered."""

from dataclasses import dataclass

from manager.domain.correlation.indicators import Kind

_FEWEST_AGENTS = 2


@dataclass(frozen=True, slots=True)
class CorrelatorSettings:
    """How many distinct agents make an incident, by kind, and how many indicators memory holds.

    Raises:
        ValueError: fewer than two agents, or no room for any indicator.
    """

    source_ip_agents: int = 2
    file_hash_agents: int = 2
    technique_agents: int = 2
    max_watched: int = 100_000
    max_open: int = 50_000

    def __post_init__(self) -> None:
        if min(self.source_ip_agents, self.file_hash_agents, self.technique_agents) < _FEWEST_AGENTS:
            raise ValueError("an incident needs at least 2 distinct agents")
        if min(self.max_watched, self.max_open) < 1:
            raise ValueError("memory must hold at least 1 indicator")

    @property
    def thresholds(self) -> dict[Kind, int]:
        """How many distinct agents make an incident."""
        return {
            "source_ip": self.source_ip_agents,
            "file_hash": self.file_hash_agents,
            "technique": self.technique_agents,
        }
