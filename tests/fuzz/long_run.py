"""`make fuzz`: every decoder of the inventory, round after round, for as long as it is given.

A round gives each decoder a thousand inputs (a hundred where one costs milliseconds). Its seed is the sum of the run's
seed and its number, so that a failure is found again by the seed that is printed.
"""

import argparse
import io
import logging
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import FrameType
from typing import NoReturn

import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings

from agent.logs import log_to
from tests.fuzz.decoder import Decoder
from tests.fuzz.decoders import DECODERS
from tests.fuzz.place import Place

PATIENCE = 20.0
"""Seconds of CPU time after which one input counts as a hang: ten times what the slowest takes."""

LONGEST = 300.0
"""The same in seconds of any time: the run is the last that a busy machine serves."""

_INPUTS, _SLOW_INPUTS = 1000, 100
_SHOWN = 300


class HangError(BaseException):
    """One input took longer than it may; no `except Exception` on its way may keep it."""


def _hangs(_number: int, _frame: FrameType | None) -> NoReturn:
    raise HangError


@contextmanager
def _patience() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


class Round:
    """One decoder's part of one round.

    Args:
        decoder: which it is.
        place: where it is called.
        inputs: how many it is given.
    """

    def __init__(self, decoder: Decoder, place: Place, inputs: int) -> None:
        self.decoder = decoder
        self.given = 0
        self.longest = 0.0
        self._place = place
        self._inputs = inputs
        self._last = b""

    def run(self, number: int) -> str | None:
        """Give the inputs that a seed makes; return what went wrong, with the shortest input that does it."""

        @seed(number)
        @settings(
            max_examples=self._inputs,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(data=self.decoder.inputs)
        def every(data: bytes) -> None:
            self._give(data)

        try:
            every()
        except (Exception, HangError) as error:  # noqa: BLE001 -- any of them is what is looked for
            return f"{type(error).__name__}: {error}\n      input, {len(self._last)} bytes: {self._last[:_SHOWN]!r}"
        return None

    def _give(self, data: bytes) -> None:
        self.given, self._last = self.given + 1, data
        began = time.perf_counter()
        try:
            with _patience():
                self.decoder.call(self._place, data)
        except self.decoder.raises:
            pass
        self.longest = max(self.longest, time.perf_counter() - began)


class _Nowhere(io.StringIO):
    def write(self, text: str) -> int:
        return len(text)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def silence() -> None:
    """Let nothing log: each refusal does."""
    log_to(_Nowhere())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _again(decoder: Decoder, number: int, inputs: int) -> str:
    return f"again: make fuzz FUZZ='--rounds 1 --seed {number} --inputs {inputs} --only \"{decoder.name}\"'"


def _words() -> argparse.Namespace:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--minutes", type=float, default=15.0, help="how long to go on; a round that began is finished")
    words.add_argument("--rounds", type=int, default=0, help="end after so many rounds; 0 for no such end")
    words.add_argument("--seed", type=int, default=None, help="of an earlier run, to have the same again")
    words.add_argument("--only", default="", help="the decoders whose names have this in them")
    words.add_argument("--inputs", type=int, default=_INPUTS, help="inputs for each decoder and round")
    return words.parse_args()


def main() -> int:
    """Run until the time is over; return 1 if anything was found."""
    words = _words()
    chosen = [decoder for decoder in DECODERS if words.only in decoder.name]
    base = random.SystemRandom().randrange(1 << 32) if words.seed is None else words.seed
    _say(f"{len(chosen)} decoders, seed {base}")
    signal.signal(signal.SIGALRM, _hangs)
    signal.signal(signal.SIGPROF, _hangs)
    silence()
    end = time.monotonic() + 60 * words.minutes
    failed: dict[str, str] = {}
    given = 0
    with tempfile.TemporaryDirectory() as directory, Place(Path(directory)) as place:
        for number in count():
            for decoder in chosen:
                if decoder.name in failed:
                    continue
                inputs = max(1, words.inputs * _SLOW_INPUTS // _INPUTS) if decoder.slow else words.inputs
                began, part = time.perf_counter(), Round(decoder, place, inputs)
                found = part.run(base + number)
                given += part.given
                took = time.perf_counter() - began
                line = f"round {number} {decoder.name}: {part.given} inputs, {took:.1f} s, longest {part.longest:.3f} s"
                _say(line)
                if found is not None:
                    failed[decoder.name] = f"{found}\n  {_again(decoder, base + number, words.inputs)}"
                    _say(f"  FAILED {found}")
                if time.monotonic() > end:
                    break
            if time.monotonic() > end or number + 1 == words.rounds:
                break
    _say(f"{given:,} inputs; {len(failed)} of {len(chosen)} decoders failed; seed {base}")
    for name, found in failed.items():
        _say(f"{name}: {found}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
