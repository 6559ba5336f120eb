"""Counts of things in words: one function for every command."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as ``1 host`` or ``1,204 addresses``.

    Args:
        number: the number.
        noun: the noun of one.
        plural: the noun of several, where an s is not enough.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
