"""Numbers of agents that wait to be written: in order, each once, and at a cost that a large fleet does not raise."""

import tracemalloc
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from manager.engine.unwritten import CHANGED, HEARD, AgentNumbers

STEPS = st.lists(
    st.none() | st.tuples(st.integers(1, 2_000) | st.integers(1, 10**9), st.sampled_from([CHANGED, HEARD]))
)


@given(STEPS, st.integers(0, 5))
def test_each_number_is_taken_once_in_order_with_all_its_marks(steps: list[tuple[int, int] | None], read: int) -> None:
    """What is added while a former set is being read is of the next one."""
    numbers, waiting = AgentNumbers(), dict[int, int]()
    taken, expected = iter(()), list[tuple[int, int]]()
    for step in (*steps, None):
        if step is not None:
            number, mark = step
            numbers.add(number, mark)
            waiting[number] = waiting.get(number, 0) | mark
            assert list(islice(taken, read)) == expected[:read]
            del expected[:read]
        else:
            assert list(taken) == expected
            taken, expected = numbers.take(), sorted(waiting.items())
            waiting.clear()
    assert list(taken) == expected


def test_the_first_of_many_numbers_are_taken_without_a_look_at_the_others() -> None:
    """A step that begins to write a fleet of 300,000 does as much as each of the following."""
    numbers = AgentNumbers()
    for number in range(300_000):
        numbers.add(number * 7919 % 300_000, HEARD)
    tracemalloc.start()
    try:
        first = list(islice(numbers.take(), 1_000))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert first == [(number, HEARD) for number in range(1_000)]
    assert most < 500_000
