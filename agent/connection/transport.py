"""Builds the dialer and the registrations for the manager's address: MQTT or HTTP.

Only the transport in use is imported, because the other client library would waste memory.
"""

from collections.abc import Callable

from agent.clock import Clock
from agent.connection.identity import Enrolled, IdentityFile
from agent.connection.registration import RegistrationAttempt
from agent.errors import ConfigurationError
from agent.host import HostFacts, host_facts
from agent.link.link import Dialer
from agent.link.tls import trust_for
from agent.logs import EventLog
from agent.options import Options
from agent.settings import GuardSettings
from schemas.keys import EnrollmentToken
from schemas.loopback import is_loopback
from schemas.succession import TrustedKeys

_log = EventLog("doors")


def build_dialer(options: Options, settings: GuardSettings, clock: Clock, version: Callable[[], int | None]) -> Dialer:
    """Return the dialer for the manager's address.

    Args:
        options: The start options.
        settings: The settings.
        clock: The host's clocks.
        version: Returns the version of the policy in force, None without one.

    Raises:
        ConfigurationError: the file of certificates cannot be used.
    """
    address = options.manager
    if not address.tls and not is_loopback(address.host):
        advice = "anyone on the network path can read the traffic, and over http forge the policy; use TLS"
        _log.warning("link_unprotected", manager=str(address), advice=advice)
    wanted = options.token.ca_fingerprint if options.token is not None else None
    trust = trust_for(address, options.directory, options.ca_file, wanted)
    if not address.over_http:
        from agent.link.mqtt import MqttDialer  # noqa: PLC0415 -- see above

        return MqttDialer(address, settings.keep_alive, trust)
    from agent.link.http import HttpDialer  # noqa: PLC0415 -- see above

    return HttpDialer(address, version, clock, trust)


def build_registrations(
    options: Options, settings: GuardSettings, clock: Clock, identity: IdentityFile, started: float
) -> Callable[[], RegistrationAttempt] | None:
    """Return the factory of registration attempts; None if registered over MQTT and without a token.

    Args:
        options: The start options.
        settings: The settings.
        clock: The host's clocks.
        identity: The guard's identity.
        started: When the guard was started, on the monotonic clock.

    Raises:
        ConfigurationError: the guard is not registered and has no token.
    """

    def facts() -> HostFacts:
        return host_facts(options.hostname)  # addresses may have changed since the last time

    if options.manager.over_http:
        from agent.connection.http_registration import HttpRegistrations  # noqa: PLC0415 -- see above

        return HttpRegistrations(
            identity=identity,
            token=options.token,
            facts=facts,
            organization=options.organization,
            site=options.site,
            tags=options.tags,
        )
    if options.token is not None:
        return _over_mqtt(
            options, facts, settings=settings, clock=clock, identity=identity, started=started, token=options.token
        )
    if identity.identity.enrolled is None:
        raise ConfigurationError(
            "this guard is not registered yet: give it an enrollment token in PANGUARD_ENROLL_TOKEN"
            " or with --enroll-token-file (panguard manager tokens create makes one)"
        )
    return None


def _over_mqtt(
    options: Options,
    facts: Callable[[], HostFacts],
    *,
    settings: GuardSettings,
    clock: Clock,
    identity: IdentityFile,
    started: float,
    token: EnrollmentToken,
) -> Callable[[], RegistrationAttempt]:
    from agent.connection.mqtt_registration import MqttRegistration, RegistrationFields  # noqa: PLC0415 -- see above

    def apply() -> MqttRegistration:
        known = identity.identity
        # A registered agent sends its current facts; only one without an agentId repeats an unanswered registration.
        pending = known.pending if known.enrolled is None else None
        return MqttRegistration(
            fields=RegistrationFields(
                token,
                known.secret,
                facts(),
                options.organization,
                options.site,
                options.tags,
                trusted_by(token.sign_key, known.enrolled),
            ),
            settings=settings,
            clock=clock,
            started=started,
            keep=identity.await_answer,
            pending=pending,
        )

    return apply


def trusted_by(sign_key: str, enrolled: Enrolled | None) -> TrustedKeys:
    """Return the keys that a token's key stands for: with its successors, where this guard has followed them."""
    known = None if enrolled is None else enrolled.trusted
    return known if known is not None and known.knows(sign_key) else TrustedKeys(sign_key)
