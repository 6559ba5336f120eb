"""The manifests of deploy/kubernetes: accepted by the API's schema, contained, and true to the program."""

import shlex
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from manager.settings import Settings
from tests.support.command_lines import parse
from tests.support.composition import ROOT, services

MANIFESTS: list[dict[str, Any]] = [
    manifest
    for path in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
PODS = {m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in MANIFESTS if "template" in m["spec"]}
EVERY = pytest.mark.parametrize("name", PODS)
PROCESSES = ("panguard-manager", "panguard-ingest")


@pytest.mark.parametrize(
    "manifest", MANIFESTS, ids=lambda manifest: f"{manifest['kind']}-{manifest['metadata']['name']}"
)
def test_the_schema_accepts_the_manifest(manifest: dict[str, Any]) -> None:
    """In strict mode, which refuses fields that Kubernetes does not know."""
    kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_the_schema_refuses_an_unknown_field() -> None:
    """Strict mode can fail."""
    wrong = {**MANIFESTS[0], "spec": {**MANIFESTS[0]["spec"], "replicaz": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


@EVERY
def test_a_pod_has_no_privilege_that_it_does_not_need(name: str) -> None:
    """No root, no writable root file system, no capability, no account at the API; bounded resources."""
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}
        assert container["image"] in {service["image"] for service in services().values()}


@pytest.mark.parametrize("name", PROCESSES)
def test_commands_and_variables_exist(name: str) -> None:
    """The command line parses, each variable is a setting, and each path in one lies in the copied Secret."""
    (container,) = PODS[name]["containers"]
    assert parse(shlex.join(["panguard", *container["args"]])) == "panguard manager start"
    variables = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    settings = {f"PANGUARD_{field.upper()}" for field in Settings.model_fields}
    assert set(variables) - settings <= {"POD_NAME", "SSL_CERT_FILE"}
    paths = [value for key, value in variables.items() if key not in {"POD_NAME", "PANGUARD_ADDRESS"}]
    assert [path for path in paths if not path.startswith("/run/panguard/")] == []
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"


@pytest.mark.parametrize("name", PROCESSES)
def test_the_key_file_is_copied_into_memory(name: str) -> None:
    """A file of mode 0400 of the manager's own user, on a volume that is not on a disk."""
    (first,) = PODS[name]["initContainers"]
    assert "install -m 0400 /run/secret/* /run/panguard/" in first["command"]
    (opened,) = (volume for volume in PODS[name]["volumes"] if volume["name"] == "opened")
    assert opened["emptyDir"]["medium"] == "Memory"
