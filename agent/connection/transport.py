"""Which way to the manager an address asks for: the link, and how a guard registers over it.

Each way is imported only where it is gone: the other one's client would be idle memory.
"""

from collections.abc import Callable

from agent.clock import Clock
from agent.connection.identity import IdentityFile
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

_log = EventLog("doors")


def build_dialer(options: Options, settings: GuardSettings, clock: Clock, version: Callable[[], int | None]) -> Dialer:
    """Return what opens links to the manager's address.

    Args:
        options: What the operator said.
        settings: What is tuned.
        clock: The host's clocks.
        version: Tells the version of the policy in force, None without one.

    Raises:
        ConfigurationError: the file of certificates cannot be used.
    """
    address = options.manager
    if not address.tls and not is_loopback(address.host):
        advice = "anybody on the way can read what is sent, and over http write the policy; use TLS"
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
    """Return what begins registrations; None for a guard that is registered over MQTT already and has no token.

    Args:
        options: What the operator said.
        settings: What is tuned.
        clock: The host's clocks.
        identity: Who the guard is.
        started: When the guard was started, on the monotonic clock.

    Raises:
        ConfigurationError: the guard is nobody yet, and has no token to become somebody.
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
    from agent.connection.mqtt_registration import Applicant, MqttRegistration  # noqa: PLC0415 -- see above

    def apply() -> MqttRegistration:
        known = identity.identity
        # An agent registers anew with what is true now; only who has no name yet depends on an unanswered one.
        pending = known.pending if known.enrolled is None else None
        return MqttRegistration(
            applicant=Applicant(token, known.secret, facts(), options.organization, options.site, options.tags),
            settings=settings,
            clock=clock,
            started=started,
            keep=identity.await_answer,
            pending=pending,
        )

    return apply
