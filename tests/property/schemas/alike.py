"""Compares what a fast decoder reads with what the contract reads."""

import json
from datetime import datetime
from typing import Any

from msgspec import Struct
from pydantic import BaseModel


def compact(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def same(fast: Any, contract: Any) -> bool:
    """Return whether a value of the fast decoder is that of the contract, in type and value."""
    if isinstance(contract, BaseModel):
        names = type(contract).model_fields
        return isinstance(fast, Struct) and all(same(getattr(fast, name), getattr(contract, name)) for name in names)
    if isinstance(contract, datetime):
        return (datetime.fromisoformat(fast) if isinstance(fast, str) else fast) == contract
    if isinstance(contract, dict):
        return set(fast) == set(contract) and all(same(fast[key], value) for key, value in contract.items())
    if isinstance(contract, list):
        return len(fast) == len(contract) and all(map(same, fast, contract))
    return type(fast) is type(contract) and repr(fast) == repr(contract)
