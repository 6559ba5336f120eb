"""What a guard reads of its manager and broker, of its own disk, and of the host that it guards."""

import bz2
import contextlib
import fcntl
import gzip
import json
import lzma
import queue
import socket
import sqlite3
from collections import Counter
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import httpx2
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from paho.mqtt.client import MQTTMessage

from agent.accounts import HostAccounts
from agent.cli import fence_configuration
from agent.cli.doctor import fix_rsyslog
from agent.cli.fence_configuration import EnrollmentNames
from agent.clock import Clock
from agent.configuration import read_configuration
from agent.connection.http_registration import HttpRegistration
from agent.connection.identity import Enrolled, IdentityFile
from agent.connection.mqtt_registration import MqttRegistration, RegistrationFields
from agent.detect.detection_chain import DetectionChain
from agent.errors import ConfigurationError, GuardError, StorageError
from agent.events import Record, RecordOrigin
from agent.host import HostFacts, gateways
from agent.link.address import ManagerAddress
from agent.link.http import _retry_after
from agent.link.http_exchange import Answer
from agent.link.link import Account, Closed, MessageReceived, PolicyReceived, RegistrationAnswered
from agent.link.mqtt import MqttDialer, MqttLink
from agent.link.request_queue import RequestQueue
from agent.link.tls import trust_for
from agent.manager_time import ManagerTime
from agent.options import Options, read_token_file
from agent.parse.record_parser import RecordParser
from agent.pipeline import Pipeline
from agent.policy.blocklist import OrganizationBlocklist
from agent.policy.policy_store import PolicyStore
from agent.report.delivery import Delivery
from agent.report.kept_reports import KeptReports
from agent.report.outbox import Outbox, coded
from agent.respond.enforcement import Enforcement
from agent.respond.mode import ModeControl
from agent.respond.own_blocks import OwnBlocks
from agent.respond.recording_responder import RecordingResponder
from agent.settings import GuardSettings, read_settings
from agent.sources import cursors, journal_entry, journalctl_reader
from agent.sources.file_source import FileSource
from agent.sources.journal_source import JournalSource
from agent.sources.log_file import Position
from agent.sources.tail import Tail
from agent.status import inspect_guard, read_status
from agent.storage.database import Database
from agent.storage.instance_lock import running_pid
from schemas import message_codes, topics
from schemas.errors import ConfigFileError, TokenError
from schemas.keys import version_statement
from schemas.policy import default_sections, digest_of
from schemas.presence import Mode
from schemas.topics import BLOCKLIST, BLOCKLIST_CHANGES, MANAGER_KEYS, POLICY, REGISTRATION_REPLY
from tests import strategies as wire
from tests.fuzz.broker_decoders import BROKERS_WORDS
from tests.fuzz.decoder import Decoder
from tests.fuzz.place import AGENT, CLIENT, KEYRING, LINK, NOW, TOKEN, Place
from tests.spoiling import hostile, hostile_json, hostile_text
from tests.unit.agent.fake_link import FakeLink

_ENROLLED = Enrolled(AGENT, "acme", KEYRING.sign_public)
_FACTS = HostFacts("srv-01", "Debian 12", "x64", "1.2.3")


_FENCE_CONF = (
    'sign_keys = [\n  "x", # one\n]\nagent_id = "x"\norganization_id = "y"\nnever = ["192.0.2.0/24"]\n',
    '# agent_id = ""\n"agent_id" = "x"\nsign_keys = "no list"\nnever = 7\n',
    'reason = """\nagent_id = 1\n"""\n[table]\nagent_id = "x"',
)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _signed(topic: str, body: bytes) -> bytes:
    """Return a body with the manager's signature: what a manager that has gone wrong would send."""
    body = body.rstrip()
    return message_codes.with_signature(KEYRING.sign_key, topic, body if body.endswith(b"}") else body + b"}")


def _messages(*models: type) -> SearchStrategy[bytes]:
    return st.sampled_from(models).flatmap(lambda model: wire.MESSAGES[model]).map(lambda message: message.body())


_BY_NAME = {model.__name__: model for row in topics.TABLE for model in row.models}


def _policy_document() -> bytes:
    document = default_sections() | {"blocklist": {"ips": ["192.0.2.1"], "domains": [], "fileHashes": []}}
    head = {"version": 3, "updatedAt": "2026-01-01T00:00:00Z", "scope": "agent", "agentId": AGENT}
    return json.dumps(head | {"digest": "0" * 64, "versionProof": ""} | document).encode()


def _named(body: bytes) -> bytes:
    """Give a document that can be read the digest and proof that it needs to be looked at further."""
    try:
        document = json.loads(body)
        digest = digest_of(document)
        proof = message_codes.to_base64url(KEYRING.sign_key.sign(version_statement(AGENT, document["version"], digest)))
        return json.dumps({**document, "digest": digest, "versionProof": proof}).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return body


def _enforcement(place: Place, blocklist: OrganizationBlocklist | None = None) -> Enforcement:
    return Enforcement(
        responder=RecordingResponder(place.guard_database),
        own=OwnBlocks(place.guard_database),
        organization=blocklist.measures if blocklist is not None else list,
        mode=ModeControl(place.guard_database, Clock(), ManagerTime(Clock()), host=Mode.PROTECTION),
        protected=("192.0.2.7",),
        duration=60.0,
        clock=Clock(),
    )


def _keeper(place: Place) -> PolicyStore:
    place.guard_database.connection.execute("DELETE FROM policy")
    keeper = PolicyStore(place.guard_database, Clock(), _enforcement(place).obey, Counter())
    keeper.pin(_ENROLLED)
    return keeper


def _policy(place: Place, body: bytes) -> None:
    """An answer is taken or refused, and what was taken is read back at the next start."""
    applied = _keeper(place).receive(_signed(POLICY.below_root(AGENT), _named(body)))
    if applied is not None:
        again = PolicyStore(place.guard_database, Clock(), _enforcement(place).obey, Counter())
        assert again.in_force is not None
        assert again.in_force.version == applied.version


def _policy_forged(place: Place, body: bytes) -> None:
    assert _keeper(place).receive(body) is None


def _policy_over_http(place: Place, body: bytes) -> None:
    place.guard_database.connection.execute("DELETE FROM policy")
    keeper = PolicyStore(place.guard_database, Clock(), lambda _effective: [], Counter())
    keeper.pin(Enrolled(AGENT, "acme", token="x"))
    for event in _poll(body):
        if isinstance(event, PolicyReceived):
            keeper.take(event.document)


def _poll(body: bytes) -> list[Any]:
    requests = RequestQueue(AGENT, lambda: 3)
    request = requests.next(0.0, NOW)
    assert request is not None
    return requests.answered(request, Answer(200, body), 0.0)


def _blocklist(place: Place, body: bytes) -> None:
    blocklist = OrganizationBlocklist(place.guard_database, Counter())
    blocklist.pin(Enrolled(AGENT, "default", KEYRING.sign_public))
    blocklist.pin(_ENROLLED)
    blocklist.opened(FakeLink(), 0.0)
    for row in (BLOCKLIST, BLOCKLIST_CHANGES):
        blocklist.receive(row, _signed(row.below_root("acme"), body), 0.0)
        blocklist.receive(row, body, 0.0)
    _enforcement(place, blocklist).refresh()
    assert OrganizationBlocklist(place.guard_database, Counter()).sequence == blocklist.sequence


def _receipt(place: Place, body: bytes) -> None:
    from schemas.decoding import DecodeError, decode  # noqa: PLC0415 -- as the guard itself does
    from schemas.threats import Receipt  # noqa: PLC0415 -- the same

    kept = KeptReports(place.guard_database, 100, 1 << 20, address="http://manager", time=lambda: NOW)
    delivery = Delivery(Outbox(place.guard_database, 100, 1 << 20), 10, 30.0, kept)
    delivery.opened(FakeLink(), AGENT, b"k", 0.0)
    try:
        receipt = decode(Receipt, body, topics.RECEIPTS.limit)
    except DecodeError:
        return
    kept.settle(receipt, NOW)
    delivery.receipt(receipt, 0.0, NOW)
    delivery.tick(1.0)


def _enrollment(place: Place, body: bytes) -> None:
    for signed in (False, True):
        enrollment = MqttRegistration(
            fields=RegistrationFields(TOKEN, bytes(32), _FACTS),
            settings=GuardSettings(),
            clock=Clock(),
            started=0.0,
            keep=lambda _pending: None,
        )
        link = FakeLink()
        reply = REGISTRATION_REPLY.below_root(enrollment.account.client_id)
        body = body.replace(CLIENT.encode(), enrollment.account.client_id.encode())
        keys = _signed(MANAGER_KEYS.below_root(), body) if signed else body
        enrollment.handle(link, MessageReceived(MANAGER_KEYS, keys), 0.0)
        enrollment.handle(link, MessageReceived(REGISTRATION_REPLY, _signed(reply, body) if signed else body), 0.0)
    del place


def _mqtt_message(place: Place, data: bytes) -> None:
    told: list[object] = []
    account, address = Account("c", "u", "p", {"agentId": AGENT}), ManagerAddress("mqtt", "127.0.0.1", 1883)
    link = MqttLink(_Callbacks(), account, lambda _link, event: told.append(event), address)  # type: ignore[arg-type]
    topic, _, payload = data.partition(b"\n")
    message = MQTTMessage(topic=topic)
    message.payload = payload
    link._on_message(_Callbacks(), None, message)  # type: ignore[arg-type]
    del place


def _mqtt_stream(place: Place, data: bytes) -> None:
    """Whatever a broker says, the link tells its end: a guard that were not told would wait for ever."""
    events: queue.SimpleQueue[object] = queue.SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ManagerAddress("mqtt", "127.0.0.1", listener.getsockname()[1])
        link = MqttDialer(address, 30)(Account(CLIENT, "u", "p", {}), None, lambda _link, event: events.put(event))
        broker, _ = listener.accept()
        with broker:
            broker.settimeout(60)
            broker.recv(4096)
            with contextlib.suppress(OSError):
                broker.sendall(data[:200_000])
                broker.shutdown(socket.SHUT_WR)
            while not isinstance(events.get(timeout=60), Closed):
                pass
            link.close()
    del place


class _Callbacks:
    """Takes paho's callbacks and calls none."""


def _http_answer(_place: Place, body: bytes) -> None:
    for status in (200, 201, 304, 400, 401, 404, 409, 413, 429, 500):
        for request_of in (_heartbeat, _reports, _registration):
            requests = request_of()
            request = requests.next(10.0, NOW)
            assert request is not None
            requests.answered(request, Answer(status, body, 5.0), 10.0)
        HttpRegistration(b"{}", "own", lambda _token: None).handle(FakeLink(), RegistrationAnswered(status, body), 0.0)
    response = httpx2.Response(429, headers={"Retry-After": body[:60].replace(b"\n", b"")})
    assert _retry_after(response) >= 0


def _opened() -> RequestQueue:
    requests = RequestQueue(AGENT, lambda: 3)
    request = requests.next(0.0, NOW)
    assert request is not None
    requests.answered(request, Answer(304), 0.0)
    return requests


def _heartbeat() -> RequestQueue:
    requests = _opened()
    requests.publish(topics.HEARTBEAT, b'{"cpu":1.0}')
    return requests


def _reports() -> RequestQueue:
    requests = _opened()
    for number in range(3):
        requests.publish(topics.THREATS, b'{"id":"t-%d"}' % number)
    return requests


def _registration() -> RequestQueue:
    requests = RequestQueue("", lambda: None)
    requests.publish(topics.REGISTRATION, b"{}")
    return requests


def _identity(place: Place, data: bytes) -> None:
    path = place.folder("identity")
    (path / "identity.json").write_bytes(data)
    for over_http in (False, True):
        identity = IdentityFile(path, over_http=over_http).identity
        if identity.enrolled is not None and not over_http:
            PolicyStore(place.guard_database, Clock(), lambda _effective: [], Counter()).pin(identity.enrolled)


def _small_files(place: Place, data: bytes) -> None:
    path = place.folder("small")
    for name in ("status.json", "guard.pid", "ca.crt", "token"):
        (path / name).write_bytes(data)
    read_status(path)
    with (path / "guard.pid").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        running_pid(path)
    address = ManagerAddress.parse("mqtts://192.0.2.1")
    for read in (
        lambda: trust_for(address, path),
        lambda: trust_for(address, path, wanted="x" * 43),
        lambda: trust_for(address, path / "none", path / "ca.crt"),
        lambda: read_token_file(path / "token"),
    ):
        try:
            read()
        except ConfigurationError:
            continue


_GUARD_COLUMNS: dict[str, SearchStrategy[bytes]] = {
    "policy.document": hostile_json(st.just(_policy_document())),
    "policy.sections": hostile_json(st.just(json.dumps(default_sections()).encode())),
    "policy.state": hostile_text("applied", "partial"),
    "detection_events.event": hostile_json(
        st.just(b'[1.0,"login_failed",{"sourceIp":"192.0.2.1","port":22,"user":"a","method":"password"},true,1]')
    ),
    "source_cursors.cursor": hostile_json(st.just(b'{"inode":1,"offset":5,"head_size":5,"head":"%b"}' % (b"0" * 64))),
    "outbox.body": hostile_json(st.just(b'{"id":"t-1","threat":{"type":"x"}}')),
}
"""Columns whose text is read as more than text."""


def _guard_row(column: str) -> Callable[[Place, bytes], None]:
    """A row gone bad costs no more than itself: the guard starts."""
    table, _, name = column.partition(".")

    def call(place: Place, data: bytes) -> None:
        database = _furnished(place)
        value = data if name in {"document", "body"} else data.decode("utf-8", "replace")
        database.connection.execute(f"UPDATE {table} SET {name} = ?", (value,))
        (place.folder("rows") / "log").touch()
        _start(database, place.folder("rows") / "log")
        inspect_guard(place.folder("rows"))

    return call


def _furnished(place: Place) -> Database:
    path = place.folder("rows") / "guard.db"
    if "rows" not in place.__dict__:
        place.__dict__["rows"] = Database.open(path)
        place._stack.callback(place.__dict__["rows"].close)
    database: Database = place.__dict__["rows"]
    run = database.connection.execute
    log = str(place.folder("rows") / "log")
    for table in ("policy", "detection_events", "source_cursors", "outbox"):
        run(f"DELETE FROM {table}")
    named = _named(_policy_document())
    run(
        "INSERT INTO policy VALUES (1, ?, ?, ?, ?, 'applied', NULL)",
        (AGENT, "k", named, json.dumps(default_sections())),
    )
    run("INSERT INTO detection_events (at, event) VALUES (1.0, '{}')")
    run("INSERT INTO source_cursors VALUES (?, '{}')", (f"file:{log}",))
    run("INSERT INTO outbox (id, body) VALUES ('t-1', ?)", (b"{}",))
    return database


def _start(database: Database, log: Path) -> None:
    clock = Clock()
    outbox = Outbox(database, 100, 1 << 20)
    OrganizationBlocklist(database, Counter())
    PolicyStore(database, clock, lambda _effective: [], Counter()).pin(_ENROLLED)
    source = FileSource(log, cursors.load(database.connection, f"file:{log}"), interval=1.0, now=0.0, wall=lambda: NOW)
    pipeline = Pipeline(
        sources=[source], database=database, outbox=outbox, respond=lambda _threat, _past: None, clock=clock
    )
    pipeline.close()
    for entry in outbox.after(0, 10):
        coded([entry.body, entry.body], AGENT, b"k")


def _database_file(place: Place, data: bytes) -> None:
    for name in ("guard.db", "guard.db-wal", "guard.db-shm"):
        (place.folder("broken") / name).unlink(missing_ok=True)
    path = place.folder("broken") / "guard.db"
    path.write_bytes(data)
    try:
        database = Database.open(path)
    finally:
        (place.folder("broken") / "log").touch()
    try:
        _start(database, place.folder("broken") / "log")
    finally:
        database.close()


def _database_bytes() -> SearchStrategy[bytes]:
    import tempfile  # noqa: PLC0415 -- only here

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "guard.db"
        database = Database.open(path)
        database.connection.execute("INSERT INTO outbox (id, body) VALUES ('t-1', '{}')")
        database.connection.execute("VACUUM")
        database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        return hostile(st.just(path.read_bytes()))


def _routes(place: Place, data: bytes) -> None:
    gateways(place.file("route", data), place.file("ipv6_route", data))


_ROUTE = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\tFE0200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
)
_ROUTE6 = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "20010db8000000000000000000000001 00000400 00000000 00000000 00000003 eth0\n"
)

_LINES = (
    '<38>1 2022-01-19T14:23:55+00:00 h sshd 44255 - [meta sequenceId="1"] Invalid user a from 192.0.2.1 port 3',
    "Sun 2026-11-22 10:00:01 CET h sshd-session[1]: drop connection #0 from [192.0.2.1]:1 on [192.0.2.2]:22 penalty: x",
    "Nov 22 10:00:01 h auth.info sshd[1]: error: PAM: Authentication failure for illegal user a from 192.0.2.1",
    "Nov 22 10:00:01 h last message repeated 5 times",
    "Nov 22 10:00:01 h sudo:    a : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
    "Nov 22 10:00:01 h su[1]: pam_unix(su:auth): authentication failure; logname= uid=1 euid=0 tty=p ruser=a rhost=",
    "Nov 22 10:00:01 h sshd[1]: Timeout before authentication for connection from 192.0.2.1 to 192.0.2.2, pid = 9",
    "Nov 22 10:00:01 host sshd[1]: Failed password for root from 192.0.2.1 port 22 ssh2",
    "2026-11-22T10:00:01Z h sshd[1]: message repeated 5 times: [ Failed password for a from 2001:db8::1 port 9 ssh2]",
    "Nov 22 10:00:01 host sshd[1]: Accepted publickey for root from 192.0.2.1 port 22 ssh2: RSA SHA256:abc",
    "Nov 22 10:00:01 host sshd[1]: Connection closed by authenticating user root 192.0.2.1 port 22 [preauth]",
    "Feb 29 23:59:60 host sshd[1]: Invalid user x from fe80::1%eth0 port 99999",
)


def _line(_place: Place, data: bytes) -> None:
    """Any lines, with a header and as messages of a journal, through parsers and detectors."""
    chain, reader = DetectionChain(HostAccounts(unknown=True), UTC), RecordParser(UTC)
    for text in data.decode(errors="replace")[: 16 * 1024].split("\n"):
        chain.examine(Record(text, RecordOrigin("file:a"), vouched=len(data) % 2 == 0), NOW)
        reader.read(Record(text, RecordOrigin("journal", identifier="sshd", pid=1), at=NOW, vouched=True), NOW)
        reader.read(Record(text, RecordOrigin("journal", identifier="sudo"), at=NOW), NOW)
    chain.finish()


def _journal(_place: Place, data: bytes) -> None:
    """Whatever journalctl prints and a cursor holds, a source gives bounded texts of Unicode and a cursor."""
    entries = [entry for line in data.splitlines() for entry in journalctl_reader._entries(line)]
    source = JournalSource(_text(data), interval=1.0, now=0.0, wall=lambda: NOW)
    assert all(len(source._record(entry, live=False).text) <= journal_entry.MAX_FIELD for entry in entries)
    assert all(
        entry.fields == {name: text.encode().decode() for name, text in entry.fields.items()} for entry in entries
    )
    JournalSource(source.cursor, interval=1.0, now=0.0, wall=lambda: NOW)


def _archive(place: Place, data: bytes) -> None:
    """A damaged archive beside a log costs no more than itself."""
    path = place.file("packed.log", b"one\n")
    for suffix in (".gz", ".bz2", ".xz", ".zst"):
        path.with_name(f"packed.log.1{suffix}").write_bytes(data)
        with Tail(path, look_back=0.0) as tail:
            lines = tail.read()
            while not tail.at_end:  # a whole archive may have more lines than one read returns
                lines = tail.read()
            assert [line.text for line in lines][-1:] == ["one"]
        path.with_name(f"packed.log.1{suffix}").unlink()


def _fence_conf(_place: Place, data: bytes) -> None:
    text = data.decode(errors="replace")
    key = KEYRING.sign_public
    for names in (
        EnrollmentNames(key, key, "ag-0123456789abcdef", "acme"),
        EnrollmentNames(key, is_other_manager=True),
    ):
        changed, _ = fence_configuration.updated(text, names, Path("fence.conf"))
        list(fence_configuration.missing_from_never(changed, ["203.0.113.5"]))


def _rsyslog(place: Place, data: bytes) -> None:
    """A configuration is changed in one line, or refused; a second time changes nothing."""
    path = place.file("rsyslog.conf", data)
    drop_in = path.with_name("20-panguard.conf")
    try:
        fix_rsyslog(path, drop_in)
    except (ConfigurationError, UnicodeDecodeError):
        return
    once = path.read_bytes()
    fix_rsyslog(path, drop_in)
    assert path.read_bytes() == once


def _log(place: Place, data: bytes) -> None:
    """A log of any bytes, read through a rotation, gives lines of bounded length, and a position that leads back."""
    path = place.file("auth.log", b"")
    (path.parent / "auth.log.1").unlink(missing_ok=True)
    with Tail(path, look_back=0.0) as tail:
        half = len(data) // 2
        path.write_bytes(data[:half])
        lines = tail.read()
        path.rename(path.parent / "auth.log.1")
        path.write_bytes(data[half:])
        while more := tail.read():
            lines += more
        assert all(len(line.text) <= 16 * 1024 for line in lines)
        kept = Position.from_json(tail.position.to_json())
    with Tail(path, kept) as again:
        assert again.read() == []


def _words(place: Place, data: bytes) -> None:
    text = _text(data).replace("\0", "")
    file = place.directory / "guard.toml"
    file.write_bytes(data)
    names = [f"PANGUARD_{name.upper()}" for name in GuardSettings.model_fields]
    for read in (
        lambda: ManagerAddress.parse(text),
        lambda: read_settings({names[len(data) % len(names)]: text}),
        lambda: read_configuration({}, {}, file),
        lambda: Options.check(
            manager="mqtt://127.0.0.1", directory=Path("/nowhere"), mode=Mode.LEARNING, hostname=text, site=text
        ),
        lambda: Options.check(manager=text, directory=Path("/nowhere"), mode=Mode.LEARNING, token=text),
    ):
        try:
            read()
        except (ConfigurationError, ConfigFileError, TokenError):
            continue
    file.unlink()


_ENTRIES = (
    '{"MESSAGE":"m","__REALTIME_TIMESTAMP":"1","__CURSOR":"s=1;i=1","_UID":"0","SYSLOG_IDENTIFIER":"sshd"}',
    '{"MESSAGE":[104,105],"__REALTIME_TIMESTAMP":"1","__CURSOR":"s=1;i=2","_EXE":"/usr/sbin/sshd"}',
    '{"cursor":"s=1;i=1","readTo":1.5}',
)
_ARCHIVES = (gzip.compress(b"zero\n"), bz2.compress(b"zero\n"), lzma.compress(b"zero\n", preset=0))
"""Archives of one line; xz at its least preset, for at the usual one the format itself asks for 8 MiB."""


_answers = st.sampled_from(
    [
        b'{"ok":true,"data":{"pendingPolicies":[],"accepted":3}}',
        b'{"ok":false,"error":"threats.1: no"}',
        b'{"ok":true,"agentId":"ag-0123456789abcdef","token":"abc","data":{"organizationId":"acme"}}',
        b'{"ok":true,"data":%b}' % _policy_document(),
    ]
)
_identities = st.just(
    json.dumps(
        {
            "secret": message_codes.to_base64url(bytes(32)),
            "connection": CLIENT,
            "session": 3,
            "agent_id": AGENT,
            "organization_id": "acme",
            "sign_key": KEYRING.sign_public,
            "successions": [LINK.model_dump(mode="json", by_alias=True)],
            "pending": {"client_id": CLIENT, "payload": "{}"},
            "http": {"agent_id": AGENT, "organization_id": "acme", "token": "x"},
        }
    ).encode()
)
_replies = _messages(_BY_NAME["ManagerKeys"], _BY_NAME["RegistrationReply"], _BY_NAME["Rejection"])
_policies = st.just(_policy_document())

GUARD = (
    Decoder("guard policy", "network", hostile_json(_policies), _policy, slow=True),
    Decoder("guard policy, forged", "network", hostile_json(_policies), _policy_forged),
    Decoder("guard policy over HTTP", "network", hostile_json(_answers), _policy_over_http, slow=True),
    Decoder(
        "guard blocklist",
        "network",
        hostile_json(_messages(_BY_NAME["BlocklistSnapshot"], _BY_NAME["BlocklistChange"])),
        _blocklist,
        slow=True,
    ),
    Decoder("guard receipt", "network", hostile_json(_messages(_BY_NAME["Receipt"])), _receipt),
    Decoder("guard enrollment", "network", hostile_json(_replies), _enrollment),
    Decoder(
        "guard MQTT message",
        "network",
        hostile_text("panguard/v1/agents/ag-0123456789abcdef/policy\n{}"),
        _mqtt_message,
    ),
    Decoder("guard MQTT stream", "network", hostile(BROKERS_WORDS), _mqtt_stream, slow=True),
    Decoder("guard HTTP answers", "network", hostile_json(_answers), _http_answer),
    Decoder("guard identity", "disk", hostile_json(_identities), _identity, (StorageError,), slow=True),
    Decoder(
        "guard small files",
        "disk",
        hostile_json(st.just(b'{"state":"online"}')) | hostile_text("4711\n", str(TOKEN)),
        _small_files,
    ),
    *(
        Decoder(f"guard {column}", "disk", inputs, _guard_row(column), (GuardError,), slow=True)
        for column, inputs in _GUARD_COLUMNS.items()
    ),
    Decoder(
        "guard database file",
        "disk",
        st.deferred(_database_bytes),
        _database_file,
        (GuardError, sqlite3.Error),
        slow=True,
    ),
    Decoder("guard routes", "disk", hostile_text(_ROUTE, _ROUTE6), _routes),
    Decoder("sshd line", "disk", hostile_text(*_LINES), _line),
    Decoder("journal", "disk", hostile_text(*_ENTRIES), _journal),
    Decoder(
        "fence.conf at an installation", "operator", hostile_text(*_FENCE_CONF), _fence_conf, (ConfigurationError,)
    ),
    Decoder("rsyslog configuration", "disk", hostile_text('module(load="imuxsock") # provides\n'), _rsyslog),
    Decoder("log archive", "disk", hostile(st.sampled_from(_ARCHIVES)), _archive),
    Decoder("log tail", "disk", hostile_text("\n".join(_LINES), "a\nb\n"), _log),
    Decoder(
        "guard words", "operator", hostile_text("mqtt://h:1", "http://[::1]:8443", "30", "srv-01", str(TOKEN)), _words
    ),
)
