"""Rules for managers of several releases on one database: common features, and schemas that a release works with.

Every migration has a number, and states the oldest one that a release must know to work with the schema after it. A
migration that only adds keeps that number; one that removes raises it to the migration that added the new form:
docs/decisions/0024-expand-then-contract.md.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.report_batches import FEATURE

FEATURES = (FEATURE,)
"""The features of this release beyond the first one; a manager without one must not be sent what it names."""

HTTP_SIGNS = "life.http"
"""Signs of life of HTTP agents in what workers hand over: without it the leader would take these agents for silent."""

AMONG_MANAGERS = (HTTP_SIGNS,)
"""The features that managers of this release have for each other; guards are not told of them."""


class Migration(NamedTuple):
    """A migration of this release.

    Attributes:
        name: Its name, which begins with its number.
        oldest: The number of the oldest migration that a release must know to work with the schema after this one.
    """

    name: str
    oldest: int

    @property
    def number(self) -> int:
        """Its place in the order of migrations."""
        return number_of(self.name)


class LiveManager(NamedTuple):
    """A manager that works on the database: how to name it, and the newest migration that it knows."""

    name: str
    knows: int


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The schema of a database.

    Attributes:
        applied: The names of the migrations that were applied.
        oldest: The number that its migrations state; None in a schema that has no place for it.
    """

    applied: frozenset[str]
    oldest: int | None


class SchemaRefused(Exception):  # noqa: N818 -- a decision
    """This release does not work with a schema, or may not change it now; the text says why, and what to do."""


def number_of(name: str) -> int:
    """Return the number of a migration; -1 for a name without one."""
    number = name.partition("_")[0]
    return int(number) if number.isdecimal() else -1


def pending_migrations(
    known: Sequence[Migration], schema: SchemaState, managers: Iterable[LiveManager] = ()
) -> list[Migration]:
    """Return the migrations that this release has to apply before it works on a database; none to a newer schema.

    Args:
        known: all migrations of this release, in their order.
        schema: the schema as it is.
        managers: the managers that work on the database.

    Raises:
        SchemaRefused: the schema is too new or of another history, or a manager lives that could not work with the
            schema afterwards.
    """
    pending = [migration for migration in known if migration.name not in schema.applied]
    unknown = sorted(schema.applied - {migration.name for migration in known}, key=lambda name: (number_of(name), name))
    if unknown:
        _require_compatible(known[-1].number, schema, unknown, pending)
        return []
    needed = max((migration.oldest for migration in pending), default=0)
    behind = [manager.name for manager in managers if manager.knows < needed]
    if behind:
        contracting = next(migration for migration in pending if migration.oldest == needed)
        raise SchemaRefused(
            f"the migration {contracting.name} removes what managers of earlier releases need, and such work on this"
            f" database: {', '.join(behind)}. Upgrade them to a release that knows the migration {needed:04}, or"
            " stop them, then start this one again; one that was killed counts for a minute. Nothing was changed"
        )
    return pending


def _require_compatible(newest: int, schema: SchemaState, unknown: Sequence[str], pending: Sequence[Migration]) -> None:
    """Refuse a schema that a newer release made, unless it says that this release works with it."""
    if pending or number_of(unknown[0]) <= newest:
        raise SchemaRefused(
            f"the store has the migration {unknown[0]}, which this release does not have, beside those that it has:"
            " it was written by a release of another line; install that one"
        )
    if schema.oldest is None or schema.oldest > newest:
        needs = "" if schema.oldest is None else f", and needs one that knows the migration {schema.oldest:04}"
        raise SchemaRefused(
            f"the store was written by a newer release ({unknown[-1]}){needs}; this one knows {newest:04}: install that"
            " release"
        )


def common_features(own: Iterable[str], others: Iterable[Collection[str]]) -> tuple[str, ...]:
    """Return the features that a manager and all others have, in the order of its own.

    Args:
        own: the features of the manager that announces them.
        others: those of each other manager that lives.
    """
    every = [frozenset(features) for features in others]
    return tuple(feature for feature in own if all(feature in features for features in every))
