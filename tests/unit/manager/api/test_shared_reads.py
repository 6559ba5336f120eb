"""Shared reads: how many reads many clients cost, and that none gets an answer from before its question."""

import asyncio

import pytest

from manager.api.shared_reads import SharedReads


def test_clients_that_ask_at_once_share_two_reads() -> None:
    """The first is answered at once, and all that ask while its read runs share the next."""

    async def scene() -> tuple[int, set[int]]:
        reads, count, begun = SharedReads[int](apart=0.0), 0, asyncio.Event()

        async def read() -> int:
            nonlocal count
            count += 1
            mine = count
            begun.set()
            # waits for no time: it lets the other tasks of the loop run once
            await asyncio.sleep(0)
            return mine

        first = asyncio.create_task(reads.get(None, read))
        await begun.wait()
        others = [asyncio.create_task(reads.get(None, read)) for _ in range(20)]
        return count, {await first, *[await each for each in others]}

    assert asyncio.run(scene()) == (1, {1, 2})


def test_an_answer_is_never_older_than_its_question() -> None:
    """A client that asks after a change sees it, though a read from before the change still runs."""

    async def scene() -> tuple[str, str]:
        reads, state = SharedReads[str](apart=0.0), ["before"]
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def read() -> str:
            seen = state[0]
            begun.set()
            await go_on.wait()
            return seen

        first = asyncio.create_task(reads.get("all", read))
        await begun.wait()
        state[0] = "after"
        second = asyncio.create_task(reads.get("all", read))
        go_on.set()
        return await first, await second

    assert asyncio.run(scene()) == ("before", "after")


def test_keys_share_nothing_and_a_failure_is_told_to_all_that_wait() -> None:
    """An organization's answer goes to nobody else, and a read that fails is tried anew for the next client."""

    async def scene() -> list[object]:
        reads, fails = SharedReads[str](apart=0.0), [True]

        async def one() -> str:
            if fails[0]:
                raise ValueError("no store")
            return "one"

        async def other() -> str:
            return "other"

        found = await asyncio.gather(
            reads.get("a", one), reads.get("a", one), reads.get("b", other), return_exceptions=True
        )
        fails[0] = False
        return [*map(str, found), await reads.get("a", one)]

    assert asyncio.run(scene()) == ["no store", "no store", "other", "one"]


def test_a_client_that_leaves_ends_no_other_clients_read() -> None:
    """The read goes on for those that still wait for it."""

    async def scene() -> str:
        reads = SharedReads[str](apart=0.0)

        async def read() -> str:
            # waits for no time: it lets the other tasks of the loop run once
            await asyncio.sleep(0)
            return "read"

        leaver, stayer = (asyncio.create_task(reads.get(None, read)) for _ in range(2))
        # waits for no time: it lets the other tasks of the loop run once
        await asyncio.sleep(0)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        return await stayer

    assert asyncio.run(scene()) == "read"
