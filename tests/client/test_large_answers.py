"""Answers of any size: each operation has a most, and few large ones are in memory at a time."""

from __future__ import annotations

import asyncio
import json
import tracemalloc

import pytest

from mynth_dagster.client.outcome import Accepted, Unknown
from mynth_dagster.errors import NoAnswerError
from mynth_dagster.limits import KIB, LARGE_ANSWERS_MAX, MIB
from tests.client.raw import CREATED, client_of, raw_server

N_TASKS = 60
TASK_BYTES = 8 * MIB


def task_answer(task_id: str, n_bytes: int) -> bytes:
    """A whole task with so much that nobody reads."""
    head = {"id": task_id, "status": "pending", "type": "image.generate", "padding": ""}
    bare = json.dumps({"data": head}).encode()
    return bare.replace(b'"padding": ""', b'"padding": "' + b"x" * (n_bytes - len(bare)) + b'"')


async def answering(visit, answer) -> None:
    while True:
        head = await visit.read_request()
        await visit.answer(answer(head.split(b" ", 2)[1].decode()), status="200 OK")


def test_sixty_large_answers_at_once_take_the_memory_of_a_few():
    """As many bytes as the slots and one small answer of each other hold, decoded ones included."""
    pieces = task_answer("tsk_XX", TASK_BYTES).split(b"tsk_XX")

    async def serve(visit) -> None:
        while True:
            path = (await visit.read_request()).split(b" ", 2)[1]
            visit.writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {TASK_BYTES}\r\n\r\n".encode())
            visit.writer.write(pieces[0] + path.rpartition(b"/")[2])
            rest = memoryview(pieces[1])
            for start in range(0, len(rest), 64 * KIB):
                visit.writer.write(rest[start : start + 64 * KIB])
                await visit.writer.drain()

    async def read_all() -> tuple[int, set[str]]:
        async with (
            raw_server(serve) as host,
            client_of(f"http://{host}", concurrency=N_TASKS, request_timeout_s=100.0) as client,
        ):
            tracemalloc.start()
            try:
                tasks = await asyncio.gather(
                    *(client.get_task(f"tsk_{n:02d}") for n in range(N_TASKS))
                )
                return tracemalloc.get_traced_memory()[1], {task.task_id for task in tasks}
            finally:
                tracemalloc.stop()

    peak, ids = asyncio.run(read_all())

    assert len(ids) == N_TASKS
    waiting = N_TASKS * 2 * MIB
    assert peak < waiting + LARGE_ANSWERS_MAX * TASK_BYTES * 3 < N_TASKS * TASK_BYTES


@pytest.mark.parametrize(
    ("ask", "n_bytes_max"),
    [
        (lambda client: client.get_status("tsk_A"), 64 * KIB),
        (lambda client: client.list_tasks(limit=100), 4 * MIB),
        (lambda client: client.get_task("tsk_A"), 16 * MIB),
        (lambda client: client.get_balance(), 4 * MIB),
    ],
    ids=["status", "page", "task", "balance"],
)
def test_an_answer_beyond_the_most_of_its_operation_is_none(ask, n_bytes_max):
    """It is not read to its end, and the error says how much would have been read."""

    async def once() -> None:
        async with (
            raw_server(lambda visit: answering(visit, lambda _: b"x" * (n_bytes_max + 1))) as host,
            client_of(f"http://{host}", read_attempts=1, request_timeout_s=60.0) as client,
        ):
            await ask(client)

    with pytest.raises(NoAnswerError, match=f"longer than {n_bytes_max} bytes"):
        asyncio.run(once())


def test_the_answer_to_a_paid_call_never_waits_for_large_ones():
    """All turns are taken by answers that do not end, and a task is created meanwhile."""
    taken = asyncio.Semaphore(0)

    async def serve(visit) -> None:
        head = await visit.read_request()
        if head.startswith(b"POST"):
            body = CREATED.ljust(MIB)
            await visit.answer(body)
            return
        visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n")
        visit.writer.write(b"x" * (2 * MIB))
        await visit.writer.drain()
        taken.release()
        await asyncio.Event().wait()

    async def once() -> object:
        async with (
            raw_server(serve) as host,
            client_of(f"http://{host}", concurrency=16, request_timeout_s=60.0) as client,
        ):
            reads = [
                asyncio.create_task(client.get_task(f"tsk_{n}")) for n in range(LARGE_ANSWERS_MAX)
            ]
            for _ in reads:
                await taken.acquire()
            made = await client.create_task(b"{}")
            for read in reads:
                read.cancel()
            await asyncio.gather(*reads, return_exceptions=True)
            return made

    assert isinstance(asyncio.run(once()), Accepted)


def test_a_paid_answer_without_end_leaves_its_outcome_open():
    """Something was accepted or refused: which, only a search can tell."""

    async def once() -> object:
        async with (
            raw_server(lambda visit: answering(visit, lambda _: b" " * (MIB + 1))) as host,
            client_of(f"http://{host}") as client,
        ):
            return await client.create_task(b"{}")

    assert isinstance(asyncio.run(once()), Unknown)


def test_a_turn_is_given_back_by_reads_that_fail():
    """Whatever ends them: after more failures than turns, a large task is still read."""

    async def once() -> str:
        async with (
            raw_server(lambda visit: answering(visit, by_path)) as host,
            client_of(f"http://{host}", read_attempts=1, request_timeout_s=60.0) as client,
        ):
            for _ in range(LARGE_ANSWERS_MAX + 1):
                with pytest.raises(NoAnswerError):
                    await client.get_task("bad")
            return (await client.get_task("tsk_A")).task_id

    def by_path(path: str) -> bytes:
        return b"x" * (2 * MIB) if path.endswith("bad") else task_answer("tsk_A", 2 * MIB)

    assert asyncio.run(once()) == "tsk_A"
