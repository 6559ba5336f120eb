"""Text of others, made safe for a terminal."""


def printable(text: str) -> str:
    """The text with its control characters and other unprintable ones escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
