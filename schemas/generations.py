"""Generations of the manager's store: a new one begins when committed reports were lost, and asks guards for them."""

from typing import Annotated

from pydantic import Field

from schemas.model import Timestamp, WireModel

LARGEST_GENERATION = 2**53 - 1

GenerationNumber = Annotated[int, Field(ge=1, le=LARGEST_GENERATION)]
"""The number of a generation; a later generation has a greater one."""

LONGEST_SPREAD = 3600.0
"""The longest time over which a fleet's answers are spread, in seconds."""


class StoreGeneration(WireModel):
    """The present generation of the manager's store.

    With `resend_from` the store lost reports that guards have receipts for. A guard answers each generation once: it
    sends the reports again that it kept with a receipt since that time, and stays silent to a number that is not above
    every one that it has heard.
    """

    number: GenerationNumber
    resend_from: Timestamp | None = Field(
        default=None,
        description="reports with a receipt since this time, on the manager's clock, are to be sent again, once",
    )
    resend_within: Annotated[float, Field(ge=0, le=LONGEST_SPREAD)] = Field(
        default=0, description="seconds; a guard begins at a random time within them, so that a fleet does not flood"
    )
