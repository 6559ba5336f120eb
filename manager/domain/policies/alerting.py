"""Alerting of what is about no agent: of an organization, or of the whole fleet."""

from collections.abc import Mapping

from manager.domain.policies.fleet_policies import GLOBAL, Scope, Sections
from manager.domain.policies.resolution import resolve
from manager.domain.policies.rules import effects
from schemas.policy import Alerting

_DEFAULT = {"alerting": Alerting().model_dump(mode="json", by_alias=True, exclude_none=True)}


def alerting_of(documents: Mapping[Scope, Sections], organization_id: str | None) -> Sections:
    """Return the section `alerting` that the documents of an organization give, and of the fleet for None."""
    scopes = (GLOBAL,) if organization_id is None else (GLOBAL, Scope("organization", organization_id))
    layers = [_DEFAULT]
    for scope in scopes:
        document = documents.get(scope, {})
        thresholds = [rule for rule in document.get("rules", ()) if rule["type"] == "alert_threshold"]
        layers += [
            {"alerting": each["alerting"]} for each in (document, *effects({"rules": thresholds})) if "alerting" in each
        ]
    alerting: Sections = resolve(layers)["alerting"]
    return alerting


def channels_named(document: Sections) -> list[str]:
    """Return the channels that the document of a scope names, or the policy in a group's."""
    alerting = document.get("policy", document).get("alerting", {})
    return list(alerting.get("channels", ()))
