"""Escapes untrusted text for a terminal."""


def printable(text: str) -> str:
    """Return the text with control and other unprintable characters escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
