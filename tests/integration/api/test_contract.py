"""The API's own document against the API: whatever is asked, the answer is one that the document has."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.integration.api.served import ADMIN_TOKEN, LOOPBACK, Served

pytestmark = pytest.mark.long("tests/integration/api/test_documented_routes.py")

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
_PHASES = (Phase.explicit, Phase.generate, Phase.shrink)


@dataclass(frozen=True)
class Described:
    """A document, and an agent that the manager knows."""

    schema: BaseSchema
    agent_id: str


TAKES_NOTHING = ("GET /health", "GET /api/session", "DELETE /api/session")


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    with Served(tmp_path_factory.mktemp("manager"), client_addresses=LOOPBACK, rate_limit=0) as served:
        agent = served.join("srv-01")
        agent.client.close()
        schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        yield Described(schema.exclude(path="/api/events/stream"), agent.agent_id)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
def test_every_route_is_as_described(described: Described, mode: GenerationMode) -> None:
    """No failure of the server's, and no status, type or body that the document does not have."""
    found: dict[str, str] = {}
    for result in described.schema.get_all_operations():
        operation = result.ok()
        try:
            _try(operation, mode, described.agent_id)
        except (FailureGroup, Failure) as failure:
            found[operation.label] = str(failure)
        except Unsatisfiable:
            assert operation.label.startswith(TAKES_NOTHING), "what takes nothing cannot be asked wrongly"
    assert found == {}


def _try(operation: Any, mode: GenerationMode, agent_id: str) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=_PHASES)
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def every(case: schemathesis.Case, *, known: bool) -> None:
        if known and "agent_id" in case.path_parameters and case.method != "DELETE":
            case.path_parameters["agent_id"] = agent_id
        answer = case.call(headers=headers, timeout=60)
        case.validate_response(answer, checks=_CHECKS, headers=headers)

    every()
