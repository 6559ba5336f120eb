"""compose.yaml and Dockerfile as data: what each service runs, as whom, and what it may touch."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose.yaml"
DOCKERFILE = ROOT / "Dockerfile"

_VARIABLE = re.compile(r"\$\{\w+:-([^}]*)\}")


class Mount(NamedTuple):
    """Where a volume is in a container; `volume` is empty for one that belongs to the container alone."""

    volume: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class Stage:
    """One image of the Dockerfile."""

    name: str
    base: str
    text: str

    def words(self, instruction: str) -> list[str]:
        """Return the words of the last such instruction that is written as JSON."""
        found = re.findall(rf"^{instruction} (\[.*\])$", self.text, re.MULTILINE)
        return list(json.loads(found[-1])) if found else []

    @property
    def user(self) -> str:
        """As whom it runs."""
        found = re.findall(r"^USER (\S+)$", self.text, re.MULTILINE)
        return found[-1] if found else "root"


def services(path: Path = COMPOSE) -> dict[str, dict[str, Any]]:
    """Return the services of compose.yaml or another such file, its variables at their defaults."""
    text = _VARIABLE.sub(r"\1", path.read_text())
    return dict(yaml.safe_load(text)["services"])


def stages() -> dict[str, Stage]:
    """Return the stages of the Dockerfile by name."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)[1:]
    return {
        name: Stage(name, base, text) for base, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def in_order(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the services as they are started: each behind what it depends on."""
    order: list[str] = []
    while len(order) < len(found):
        ready = [name for name, service in found.items() if set(service.get("depends_on", ())) <= set(order)]
        order += [name for name in ready if name not in order]
    return order


def command(service: dict[str, Any]) -> list[str]:
    """Return the words that a service runs: its image's entry point and its own command."""
    return [*stages()[service["build"]["target"]].words("ENTRYPOINT"), *service["command"]]


def mounts(service: dict[str, Any]) -> list[Mount]:
    """Return what a service mounts."""
    split = [entry.split(":") if ":" in entry else ["", entry] for entry in service.get("volumes", ())]
    return [Mount(parts[0], parts[1], parts[2:] == ["ro"]) for parts in split]
