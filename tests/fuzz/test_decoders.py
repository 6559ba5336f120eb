"""Whatever bytes a decoder is given, it returns, or raises the error that it documents; and its memory is bounded."""

import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings

from schemas.limits import MIB
from tests.fuzz.decoder import Decoder
from tests.fuzz.decoders import DECODERS
from tests.fuzz.place import Place
from tests.fuzz.regressions import REGRESSIONS
from tests.support.examples import examples

BY_NAME = pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
BY_NAME_OF_THE_QUICK = pytest.mark.parametrize(
    "decoder", [decoder for decoder in DECODERS if not decoder.slow], ids=lambda decoder: decoder.name
)

_EXAMPLES, _SLOW_EXAMPLES = examples(25), examples(6)
_MEASURED = examples(4)
_FACTOR = 300
"""Bytes of memory that a byte of input may cost: in a list of empty objects it costs a tenth of that."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("fuzz")) as place:
        yield place


@BY_NAME
def test_any_bytes_are_taken_or_refused_as_documented(decoder: Decoder, place: Place) -> None:
    """Real bytes, spoiled bytes and noise: no other error, no end of the process; a hang meets the test's own limit."""

    @settings(max_examples=_SLOW_EXAMPLES if decoder.slow else _EXAMPLES)
    @given(data=decoder.inputs)
    def every(data: bytes) -> None:
        try:
            decoder.call(place, data)
        except decoder.raises:
            return

    every()


@pytest.mark.parametrize(("name", "data"), REGRESSIONS, ids=[f"{n}-{name}" for n, (name, _) in enumerate(REGRESSIONS)])
def test_what_once_broke_a_decoder_is_taken_or_refused_now(name: str, data: bytes, place: Place) -> None:
    """Every input that the long run has found, and a few of their kind."""
    (decoder,) = [decoder for decoder in DECODERS if decoder.name == name]
    with suppress(*decoder.raises):
        decoder.call(place, data)


@BY_NAME_OF_THE_QUICK
def test_memory_is_bounded_by_the_size_of_the_input(decoder: Decoder, place: Place) -> None:
    """At its peak a decoder holds no more than a fixed multiple of what it was given, refused or not."""

    @settings(max_examples=_MEASURED)
    @given(data=decoder.inputs)
    def every(data: bytes) -> None:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with suppress(*decoder.raises):
            decoder.call(place, data)
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before <= 2 * MIB + _FACTOR * len(data)

    tracemalloc.start()
    try:
        every()
    finally:
        tracemalloc.stop()
