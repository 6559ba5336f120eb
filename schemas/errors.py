"""Errors of the contract."""


class SchemaError(ValueError):
    """Root of all errors of `schemas`; the message gives the reason."""


class TopicError(SchemaError):
    """A topic, or an id in it, does not match the topic table."""


class TokenError(SchemaError):
    """An enrollment token is not of the form ``pg1.{tokenId}.{secret}.{signKey}[.{fingerprint}]``."""


class KeyMaterialError(SchemaError):
    """A key or a sealed secret cannot be read."""


class DurationError(SchemaError):
    """A text is no duration such as ``90s``, ``15m``, ``24h`` or ``7d``."""


class ConfigFileError(SchemaError):
    """A settings file is malformed, or has a setting that it cannot have; the message names file, line and remedy."""
