"""Shares equal values between agents, within bounds of memory: many state the same, and a fleet needs one object of it.

The texts in them are an agent's choice. One that states other long texts with each message would fill every cache with
them, and there they would stay; so values with long texts are not kept.
"""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeVar

Result = TypeVar("Result")
Value = TypeVar("Value", bound=Hashable)

KEPT = 4096
"""The number of values of one kind that are kept; the least recently used go."""

LONGEST = 512
"""The maximum number of characters in the texts of a value that is kept."""


def remembering(
    function: Callable[..., Result], length: Callable[..., int], most: int = KEPT, longest: int = LONGEST
) -> Callable[..., Result]:
    """Return a function that remembers its results, except those for arguments with long texts.

    Args:
        function: a pure function of hashable arguments.
        length: returns the characters of the texts in the same arguments.
        most: the number of results that are kept; the least recently used go.
        longest: the characters of texts up to which a result is kept.
    """
    kept = lru_cache(most)(function)

    def remembered(*arguments: Any) -> Result:
        return kept(*arguments) if length(*arguments) <= longest else function(*arguments)

    return remembered


def sharing(length: Callable[[Value], int]) -> Callable[[Value], Value]:
    """Return a function that returns an equal value, of which the fleet has one object unless its texts are long.

    Args:
        length: returns the characters of a value's texts.
    """
    return remembering(_itself, length)


def _itself(value: Value) -> Value:
    return value


@lru_cache(KEPT)
def shared_percentage(value: float | None) -> float | None:
    """Return an equal value, of which the fleet has one object: percentages have one decimal place."""
    return value
