"""One row of the inventory: what it reads, from where, how it is called, and how it may refuse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hypothesis.strategies import SearchStrategy

from tests.fuzz.place import Place

Call = Callable[[Place, bytes], object]


@dataclass(frozen=True, slots=True)
class Decoder:
    """One decoder of the product.

    Attributes:
        name: Which it is: the module's words, where they say it.
        source: Where its bytes come from.
        inputs: Real ones, spoiled ones, noise.
        call: Gives it bytes as its callers do.
        raises: The errors that it documents; none where it refuses by what it returns.
        slow: Costs milliseconds: gets fewer examples.
    """

    name: str
    source: Literal["network", "disk", "operator"]
    inputs: SearchStrategy[bytes]
    call: Call
    raises: tuple[type[Exception], ...] = ()
    slow: bool = False
