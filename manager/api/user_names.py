"""Threats and incidents as a caller may see them: viewers get masks of user names that are no account."""

from manager.api.authentication import Caller
from manager.api.ports import Record
from manager.domain.access import Role
from manager.domain.user_names import UserNames


def is_masked_for(caller: Caller) -> bool:
    """Return whether a caller gets masks: a token below the role responder. Agents get their own reports unchanged."""
    return caller.role is not None and not caller.has(Role.RESPONDER)


def threat_for(caller: Caller, names: UserNames, record: Record) -> Record:
    """Return a threat's record for a caller."""
    if not is_masked_for(caller):
        return record
    evidence, threat = names.shown(record["details"]), record["threat"]
    original = record["originalThreat"]
    texts = {key: evidence[key] for key in ("source", "description", "raw", "host") if key in evidence}
    return {
        **record,
        "details": evidence,
        "threat": {**threat, "evidence": evidence} if "evidence" in threat else threat,
        "originalThreat": {**original, "event": {**original["event"], "metadata": evidence, **texts}},
    }


def incident_for(caller: Caller, names: UserNames, record: Record) -> Record:
    """Return an incident's record for a caller."""
    if not is_masked_for(caller):
        return record
    return {**record, **{part: [_masked(names, each) for each in record[part]] for part in ("threats", "users")}}


def _masked(names: UserNames, named: Record) -> Record:
    user = named["user"]
    return {**named, "user": user and names.of_host(user, exists=named["userExists"])}
