"""Command of the HTTP server: records the addresses of the people who use the API."""

from collections.abc import Iterator

from manager.domain.instant import Instant
from manager.domain.networks import embedded_ipv4, network_of, overlap
from manager.domain.response.emergency_entry import Subject
from manager.engine.commands.access_requests import RecordOperatorAddress
from manager.engine.context import Context
from manager.engine.response import emergency_response, manual_response

OPERATOR_ADDRESSES = "operator_addresses"
"""The key of the stored value: the addresses, each with the time of its last request."""


def record_operator_address(context: Context, request: RecordOperatorAddress) -> None:
    """Record the address of a person's request, and withdraw its live blocks if it is new."""
    now = context.batch.now
    operator = context.fleet.operator(request.digest, now.wall)
    if operator is None:
        return
    if context.fleet.operator_addresses.record(request.address, operator, now):
        about = list(_live_subjects(context, request.address))
        emergency_response.apply(context, context.fleet.responder.withdraw_unblockable(now.wall, about))
        network, manual = network_of(request.address), context.fleet.responder.entries.manual
        if network is not None:
            blocks = [*manual.list_covering(network), *manual.list_embedding(network)]
            manual_response.withdraw_unblockable(context, blocks)
    store_operator_addresses(context, now)


def store_operator_addresses(context: Context, now: Instant) -> None:
    """Write the addresses with this batch."""
    context.batch.changes.meta[OPERATOR_ADDRESSES] = context.fleet.operator_addresses.stored_value(now)


def _live_subjects(context: Context, address: str) -> Iterator[Subject]:
    """Yield the subjects of live blocks that contain an address."""
    own = network_of(address)
    for subject in context.fleet.responder.entries.subjects():
        network = network_of(subject.value) if subject.kind == "ip" else None
        if own is None or network is None:
            continue
        embedded = embedded_ipv4(network)
        if overlap(own, network) or (embedded is not None and overlap(own, embedded)):
            yield subject
