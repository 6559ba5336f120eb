"""The inventory of decoders is whole: what reads bytes in the product is entered by the fuzzing, or is named here."""

import ast
import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from schemas.topics import TABLE
from tests.fuzz.decoder import Decoder
from tests.fuzz.decoders import DECODERS
from tests.fuzz.place import Place

ROOTS = ("schemas", "manager", "agent")
READERS = {
    "loads", "model_validate_json", "model_validate", "fromisoformat", "urlsafe_b64decode", "fromhex", "urlsplit",
    "load_pem_x509_certificates", "load_pem_x509_certificate", "load_pem_private_key", "from_stream", "ip_network",
    "ip_address", "read_bytes", "read_text", "unpack", "PEM_cert_to_DER_cert", "pread", "from_public_bytes", "decrypt",
}  # fmt: skip
"""Calls by which bytes or texts become something else."""

DECIDERS = {"decode", "validate", "read_body", "read_document", "read_document_or", "_read_checked"}
"""Calls that are given the model to read."""

ELSEWHERE = {
    "agent/cli/fence_configuration.py:addresses": "takes what the resolver has read; root runs it",
    "agent/cli/install.py:_gid": "reads /etc/group, which root alone writes; any damage is a traceback for root",
    "agent/cli/install.py:_write_fence_configuration": "hands text on; `updated` parses it",
    "agent/cli/install.py:_write_files": "copies files of the package",
    "agent/cli/install.py:_write_secrets": "copies the operator's file of certificates, unread",
    "agent/cli/measures.py:_target": "reads the operator's own word; any error is a sentence",
    "agent/cli/measures.py:undo": "the same",
    "agent/cli/measures.py:operator_addresses": "splits its own ancestors' environment; the fence parses each address",
    "agent/link/tls.py:_chain": "takes what OpenSSL has read; tests/integration/guard/test_trust.py",
    "agent/report/outbox.py:_is_whole": "asks whether its own report is whole; any error means no",
    "agent/respond/connections.py:_address": "reads a table that the kernel made; any damage makes the count unknown",
    "agent/respond/connections.py:elsewhere": "takes an address that the log's parser has read",
    "agent/sources/journalctl_reader.py:_own_directory": "the machine's id, a directory's name; root alone writes it",
    "manager/api/bodies.py:read_document": "reads again what `decode` has taken; entered by the HTTP bodies' server",
    "manager/api/bodies.py:read_document_or": "the same",
    "manager/api/bodies.py:_read_checked": "the same",
    "manager/api/rule_check.py:_checked": "reads what its own process wrote",
    "agent/clock.py:boot_id": "reads one line that the kernel made",
    "manager/mosquitto_setup.py:_copies": "hands bytes on, unread",
    "manager/mosquitto_setup.py:_shipped_configuration": "the same",
    "manager/cli/commands/block_import.py:_read": "reads the operator's file; `addresses_in` parses its text",
    "manager/cli/commands/blocks.py:_is_address": "asks whether the operator's word is an address; any error means no",
    "manager/cli/support/background.py:_wait": "waits for what its own manager writes; `announced_url` reads any",
    "manager/cli/support/durations.py:ago": "reads a time that the manager wrote",
    "manager/cli/support/durations.py:relative": "reads a time that the manager wrote",
    "manager/notifications/channels/address.py:parse": "reads the operator's settings; any error is a sentence",
    "manager/notifications/channels/file.py:_append": "compares the last byte of a file that it wrote",
    "manager/runtime/clock.py:boot_id": "text of the kernel, compared and stored",
    "manager/runtime/mqtt_door.py:_presence": "writes a message",
    "manager/storage/queries/situation.py:_harm": "reads events that the manager itself wrote to its table",
    "manager/storage/postgresql/address.py:_password": "takes the operator's file, unread",
    "manager/storage/postgresql/address.py:database_address": "reads the operator's word; any error is a sentence",
    "manager/api/routes/console.py:_read_files": "reads the files that the release brings",
    "manager/domain/notifications/judgement/wording/event_lines.py:_address": "takes any text: test_event_data.py",
    "manager/domain/notifications/judgement/wording/event_lines.py:_seconds": "the same",
    "manager/domain/response/organization_step.py:address_network": "normal forms; `network_of` takes any text",
    "manager/settings.py:_serves_loopback_only": "reads the URL that the transport has parsed before",
    "manager/domain/ingest/decided_sequences.py:of_text": "reads its own text in the store; test_decided_sequences.py",
    "manager/domain/signing_keys.py:load": "reads what the key file has sealed: AES-GCM opens nothing else",
    "manager/storage/sealed_values.py:get": "opens sealed values; tests/integration/storage/test_key_file.py",
    "manager/storage/sealed_values.py:_opens_rows": "the same",
    "manager/storage/sealed_values.py:_reseal_rows": "the same",
    "manager/storage/moved_store.py:_move": "reads its own text in the store; test_moved_store.py",
    "manager/storage/store_copy/postgresql_target.py:progress": "reads keys that the copy wrote in the same database",
    "manager/storage/queries/agents.py:_texts": "reads a column that the start has read",
    "manager/storage/queries/enforcement.py:condition_of": "a damaged row is a 500, with the reason in the log",
    "manager/storage/queries/enforcement.py:reach_of_settings": "reads JSON that the database made of ids",
    "manager/storage/queries/incidents.py:_seconds_by_percent": "a damaged row is a 500, with the reason in the log",
    "manager/storage/queries/incidents.py:sizes": "reads JSON that the database made of ids",
    "manager/storage/queries/notifications.py:_told": "the same",
    "manager/storage/queries/operators.py:_access_record": "the same",
    "manager/storage/queries/operators.py:_audit_record": "the same",
    "manager/storage/queries/operators.py:_token_record": "the same",
    "manager/storage/queries/overview.py:_day_and_week": "reads JSON that the database made of counts",
    "manager/storage/queries/overview.py:_of_fleet": "the same",
    "manager/storage/queries/policies.py:_name_and_description": "a damaged row is a 500, with the reason in the log",
    "manager/storage/queries/policies.py:documents": "the same",
    "manager/storage/queries/policies.py:record_of": "the same",
    "manager/storage/queries/protection.py:_placement": "reads a column that the start has read",
    "manager/storage/queries/protection.py:_revisions": "a damaged row is a 500, with the reason in the log",
    "manager/storage/queries/replay_source.py:_agent": "the same, for the command that replays a store",
}
"""Functions that read and are not fuzzed by themselves, and why."""


_INPUTS = (2, 10)
"""How many inputs each decoder is given, and then, if a function was entered by none of them."""


def readers() -> dict[str, tuple[str, int]]:
    """Return the functions of the product that call a reader: file and name, with their file and first line."""
    found = {}
    for path in sorted(path for root in ROOTS for path in Path(root).rglob("*.py")):
        if "migrations" in path.parts:
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and _calls(function) & READERS:
                first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
                found[f"{path}:{function.name}"] = (str(path), first)
    return found


def _calls(function: ast.AST) -> set[str]:
    names = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
    return {name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "") for name in names}


class Entered:
    """Which functions of the product were entered, in any thread, by file and first line."""

    def __init__(self) -> None:
        self.codes: set[CodeType] = set()

    def note(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            self.codes.add(frame.f_code)

    def places(self) -> set[tuple[str, int]]:
        """Return file, below the working directory, and first line of each."""
        here = Path.cwd()
        files = ((Path(code.co_filename), code.co_firstlineno) for code in self.codes)
        return {(str(path.relative_to(here)), line) for path, line in files if path.is_relative_to(here)}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(tmp_path) as place:
        yield place


def test_every_function_that_reads_is_entered_by_the_fuzzing(place: Place) -> None:
    """A new reader needs a row in the inventory, or a reason why it needs none."""
    _forget_what_was_read()
    entered, wanted = Entered(), readers()
    threading.setprofile(entered.note)
    try:
        for inputs in _INPUTS:
            for decoder in DECODERS:
                _give(decoder, place, entered, inputs)
            places = entered.places()
            missing = {name for name, where in wanted.items() if where not in places} - set(ELSEWHERE)
            if not missing:
                break
    finally:
        threading.setprofile(None)  # type: ignore[arg-type] -- as the documentation has it
    assert sorted(missing) == []
    assert sorted(set(ELSEWHERE) - set(wanted)) == []


def _forget_what_was_read() -> None:
    """Empty every cache of the product: a look-up in one is no reading."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ROOTS:
            for member in vars(module).values():
                if callable(getattr(member, "cache_clear", None)):
                    member.cache_clear()


def _give(decoder: Decoder, place: Place, entered: Entered, inputs: int) -> None:
    @settings(
        max_examples=inputs,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(data=decoder.inputs)
    def every(data: bytes) -> None:
        before = sys.getprofile()
        sys.setprofile(entered.note)
        try:
            decoder.call(place, data)
        except decoder.raises:
            pass
        finally:
            sys.setprofile(before)

    every()


def test_every_model_that_is_read_has_a_row_of_its_own() -> None:
    """Messages of the topic table, bodies of requests, files: each model that a decoder is asked for."""
    names = {model.__name__ for row in TABLE for model in row.models}
    for path in (path for root in ROOTS for path in Path(root).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in DECIDERS:
                names |= {
                    argument.id
                    for argument in node.args
                    if isinstance(argument, ast.Name) and _is_model(path, argument.id)
                }
    rows = {decoder.name.removeprefix("decode ") for decoder in DECODERS if decoder.name.startswith("decode ")}
    assert names - rows == set()


def _is_model(path: Path, name: str) -> bool:
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    return hasattr(getattr(module, name, None), "model_validate_json")


def test_names_are_unique() -> None:
    """A name finds its decoder."""
    assert len({decoder.name for decoder in DECODERS}) == len(DECODERS)
