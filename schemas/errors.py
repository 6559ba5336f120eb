"""Errors of the contract."""


class SchemaError(ValueError):
    """Root of all errors of `schemas`; its text is one sentence with the reason."""


class TopicError(SchemaError):
    """A topic name or an id in it is outside the topic table's grammar."""


class TokenError(SchemaError):
    """An enrollment token is not of the form ``pg1.{tokenId}.{secret}.{signKey}[.{fingerprint}]``."""


class KeyMaterialError(SchemaError):
    """A key or a sealed secret cannot be read."""
