"""Errors of the contract."""


class SchemaError(ValueError):
    """Root of all errors of `schemas`; the message gives the reason."""


class TopicError(SchemaError):
    """A topic, or an id in it, does not match the topic table."""


class TokenError(SchemaError):
    """An enrollment token is not of the form ``pg1.{tokenId}.{secret}.{signKey}[.{fingerprint}]``."""


class KeyMaterialError(SchemaError):
    """A key or a sealed secret cannot be read."""
