"""`MynthResource`: connection, ledger and tables as one Dagster resource, and the sync bridge."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import queue
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeVar

import dagster as dg
import pandas as pd
import pyarrow as pa
from pydantic import Field, PrivateAttr

from mynth_dagster.client.settings import DEFAULT_BASE_URL, ClientSettings
from mynth_dagster.clock import SystemClock
from mynth_dagster.engine.collect import write_tasks
from mynth_dagster.engine.plan import Retry, RunOptions
from mynth_dagster.engine.reconcile import partition_status, wait_until_idle
from mynth_dagster.engine.run import collect, draft_quote, prepare, submit
from mynth_dagster.engine.session import EngineSettings, Session, ledger_url_in, open_session, run
from mynth_dagster.engine.stop import CANCELLED, CancelToken, shut_out
from mynth_dagster.engine.work import ImageWork
from mynth_dagster.errors import ConfigError
from mynth_dagster.limits import (
    CONCURRENCY_DEFAULT,
    CONNECT_TIMEOUT_S,
    DRAIN_GRACE_S,
    IMAGE_HOSTS,
    POLL_INTERVAL_MAX_S,
    POLL_INTERVAL_MIN_S,
    REQUEST_TIMEOUT_S,
    UPLOAD_LIFETIME_S,
)
from mynth_dagster.models.batch import Batch, Slice
from mynth_dagster.models.money import usd_from_units
from mynth_dagster.plugin.partitions import follow_range
from mynth_dagster.tables.source import PromptSource, as_arrow, open_source, source_from_arrow
from mynth_dagster.tables.store import FAILURES, IMAGES, TASKS, TableStore
from mynth_dagster.wire import AUTO_REVISION

# The one bridge from Dagster's synchronous bodies to the asynchronous engine.
#
# The engine's loop runs on a thread of its own; the body waits on Dagster's thread, where
# cancellation is raised. Then sending stops and the responses in flight get a grace period.


T = TypeVar("T")
Notice = Callable[[], None]

LOOK_UP_S = 0.2
"""How often the waiting body checks for a cancel and delivers notices."""
STATUS_BUDGET_S = 60.0
"""How long `status` polls at most."""
WATCH_S = 1.0
"""How often it asks Dagster whether its run has ended."""

Watch = Callable[[], str]
"""Returns why the work has to end; an empty text: it goes on."""


def run_watch(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Watch:
    """
    Return a watch that notices the end of a run whose process was not interrupted.

    A run that is cancelled by force, or marked as failed by run monitoring, is ended in Dagster
    alone; a step whose parent was killed is left behind.
    """
    instance, run_id = context.instance, context.run.run_id

    def watch() -> str:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            return "the process that started it is gone"
        try:
            run = instance.get_run_by_id(run_id)
        except Exception:  # noqa: BLE001 - Dagster's storage may be away for a while
            return ""
        if run is None:
            return "Dagster does not know it any more"
        return f"in Dagster it is {run.status.value}" if run.status in _OVER else ""

    return watch


_OVER = (
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.CANCELED,
    dg.DagsterRunStatus.FAILURE,
)


Step = Callable[[dg.AssetExecutionContext, "MynthResource"], Iterator[Any]]
"""The work of one step of a batch."""


class Notices:
    """The queue of calls that the engine wants on Dagster's thread, such as logging an event."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Notice] = queue.SimpleQueue()

    def put(self, notice: Notice) -> None:
        """Queue a call, from the engine's thread."""
        self._queue.put(notice)

    def deliver(self) -> None:
        """Make the queued calls, on Dagster's thread."""
        while not self._queue.empty():
            self._queue.get()()


def run_on_engine_thread(
    work: Callable[[], Coroutine[Any, Any, T]],
    *,
    stop: CancelToken,
    notices: Notices | None = None,
    watch: Watch = lambda: "",
    grace_s: float = DRAIN_GRACE_S,
) -> T:
    """
    Run a coroutine on a loop and thread of its own and wait for it.

    An interruption of the wait (Dagster's cancel, Ctrl-C) sets `stop`, waits up to ``grace_s`` for
    the work to record what is in flight, and is then raised again. A reason from `watch`, which is
    called about once a second, ends the sending in the same way, and the work ends by itself.
    """
    done: Future[T] = Future()
    notices = notices or Notices()
    threading.Thread(target=_run, args=(work, done), name="mynth-engine", daemon=True).start()
    try:
        clock = SystemClock()
        watched_at_s = clock.elapsed_s()
        while not wait_for_futures([done], timeout=LOOK_UP_S).done:
            notices.deliver()
            if not stop.is_cancelled and clock.elapsed_s() - watched_at_s >= WATCH_S:
                watched_at_s = clock.elapsed_s()
                if why := watch():
                    stop.set(shut_out(why))
    except BaseException:
        stop.set(CANCELLED)
        wait_for_futures([done], timeout=grace_s)
        raise
    notices.deliver()
    return done.result()


def _run(work: Callable[[], Coroutine[Any, Any, T]], done: Future[T]) -> None:
    try:
        done.set_result(run(work()))
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
        done.set_exception(error)


@dataclass(frozen=True)
class BatchQuote:
    """
    What sending a table would do.

    Args:
        n_rows: Rows of the table, each once for every model that it is sent to.
        n_rejected: Of these, rows that break a rule and are never sent.
        n_to_send: Rows that `submit` would send now; the others are paid for or rejected.
        cost_usd: What these would reserve; None where a price is not known.
        notes: Sentences on what to know before.
    """

    n_rows: int
    n_rejected: int
    n_to_send: int
    cost_usd: Decimal | None
    notes: Sequence[str]


@dataclass(frozen=True)
class BatchStatus:
    """
    The rows and the money of a batch, in all of its partitions or in those of one window.

    Args:
        rows_by_state: How many rows are in each state, such as `accepted` (its task runs),
            `completed`, `failed`, `unresolved`.
        charged_usd: What was charged.
        open_usd: What is reserved for tasks that run.
        unknown_usd: The most that rows whose outcome is not known may have cost.
    """

    rows_by_state: Mapping[str, int]
    charged_usd: Decimal
    open_usd: Decimal
    unknown_usd: Decimal


class BatchResults(NamedTuple):
    """
    The result tables of a batch.

    Args:
        images: A row for each image, with its URLs, size and cost.
        failures: A row for each prompt or image that has no image: why, what became of the money,
            and what to do next.
    """

    images: pd.DataFrame
    failures: pd.DataFrame


class MynthResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """
    How to reach Mynth, and where tables and ledger lie.

    In the body of `@mynth_assets`, `run(context)` does the step. In an asset of your own or a
    notebook, `quote`, `submit`, `wait`, `collect` and `status` do the same for a table at hand:

        mynth = MynthResource(api_key=dg.EnvVar("MYNTH_API_KEY"), root="tables")
        batch = Batch("postcards", request=ImageRequest(models=["recraft/recraft-v4"]))
        print(mynth.quote(frame, batch).cost_usd)
        mynth.submit(frame, batch)
        images, failures = mynth.wait(batch).collect(batch)

    Each may be repeated: what was paid for is not sent again.

    Give the key as `dg.EnvVar("MYNTH_API_KEY")`: a literal would be stored in Dagster's snapshot
    of the code location and shown in the UI. The variable is read when the key is needed, so that
    a sensor or a run without it says so in a sentence.
    """

    api_key: str = Field(
        default="", description="Mynth API key, as dg.EnvVar; never a literal.", repr=False
    )
    api_key_env: str = Field(
        default="",
        description="Environment variable that holds the key: the same as its dg.EnvVar.",
    )
    root: str = Field(description="Folder or fsspec URL under which the tables are written.")
    ledger_url: str = Field(
        default="",
        description="SQLAlchemy URL of the ledger, SQLite or Postgres. "
        "Empty: the file mynth-ledger.db in a local root.",
    )
    journal_dir: str = Field(
        default="",
        description="Local folder for paid responses while the ledger cannot be written. "
        "Empty: beside a SQLite ledger, else in a local root, else among temporary files.",
    )
    upload_lifetime_s: float = Field(
        default=UPLOAD_LIFETIME_S,
        description="Seconds for which the URL of an uploaded input file is used again. "
        "Mynth keeps it for a day.",
    )
    base_url: str = Field(default=DEFAULT_BASE_URL, description="Where the API is.")
    api_revision: str = Field(
        default=AUTO_REVISION,
        description="2026-10, 2026-08 or 2026-04; auto detects it, free of charge.",
    )
    concurrency: int = Field(
        default=CONCURRENCY_DEFAULT, description="Requests in flight at most, per run."
    )
    connect_timeout_s: float = Field(
        default=CONNECT_TIMEOUT_S, description="Seconds to connect and shake hands."
    )
    request_timeout_s: float = Field(
        default=REQUEST_TIMEOUT_S, description="Seconds for a whole request, in all."
    )
    image_hosts: list[str] = Field(
        default=list(IMAGE_HOSTS),
        description="Hosts that images are fetched from by https, without the key, besides the "
        "API's own.",
    )
    any_public_host: bool = Field(
        default=False,
        description="Fetch images from any other host too, by public addresses alone.",
    )
    poll_interval_min_s: float = Field(
        default=POLL_INTERVAL_MIN_S, description="Shortest pause between rounds of polling."
    )
    poll_interval_max_s: float = Field(
        default=POLL_INTERVAL_MAX_S, description="Longest pause between rounds of polling."
    )

    _step: Step | None = PrivateAttr(default=None)

    def __init__(self, **fields: Any) -> None:
        key = fields.get("api_key")
        if isinstance(key, dg.EnvVar):
            fields |= {"api_key": "", "api_key_env": key.env_var_name}
        super().__init__(**fields)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Have a run process the partitions of its range, whatever other one its tags name."""
        follow_range(context.run)

    def engine_settings(self) -> EngineSettings:
        """
        The settings of a session.

        Raises:
            ConfigError: A field is wrong, or the ledger's place cannot be derived.
        """
        client = ClientSettings(
            base_url=self.base_url,
            api_key=self.api_key or self._key_from_environment(),
            concurrency=self.concurrency,
            connect_timeout_s=self.connect_timeout_s,
            request_timeout_s=self.request_timeout_s,
            image_hosts=tuple(self.image_hosts),
            any_public_host=self.any_public_host,
        )
        return EngineSettings(
            client=client,
            ledger_url=self.ledger_url or ledger_url_in(self.root),
            root=self.root,
            journal_dir=self.journal_dir,
            upload_lifetime_s=self.upload_lifetime_s,
            api_revision=self.api_revision,
            poll_interval_min_s=self.poll_interval_min_s,
            poll_interval_max_s=self.poll_interval_max_s,
        )

    def _key_from_environment(self) -> str:
        key = os.environ.get(self.api_key_env, "")
        if not key:
            what = f"{self.api_key_env} is not set" if self.api_key_env else "none is given"
            message = f"{what} where Dagster runs; set it and restart the code location."
            raise ConfigError("api_key", message)
        return key

    def run(self, context: dg.AssetExecutionContext) -> Iterator[Any]:
        """
        Do the work of the step that this context is of; for the body of `@mynth_assets`.

        Yields:
            A `MaterializeResult` for each table of the step, with its `AssetCheckResult`s.

        Raises:
            ConfigError: This resource was not handed to a body of `@mynth_assets`.
            Failure: Why, what became of the money, and what to do next; the partitions that are
                done are recorded.
        """
        if self._step is None:
            reason = "it works in the body of @mynth_assets; elsewhere call quote, submit, wait"
            raise ConfigError("mynth.run", f"{reason} and collect")
        yield from self._step(context, self)

    def for_step(self, step: Step) -> MynthResource:
        """Return this resource with the work that `run` does."""
        bound = copy.copy(self)
        bound._step = step  # noqa: SLF001 - of this class
        return bound

    def quote(self, prompts: Any, batch: Batch | str, *, partition: str = "") -> BatchQuote:
        """
        Check a table of prompts and price it. Sends nothing and spends nothing.

        Args:
            prompts: A pandas or polars DataFrame, an Arrow table, a pyarrow Dataset, or the path
                of Parquet files.
            batch: The batch with its settings, or only its name.
            partition: Key of a window of the batch, where it has any.

        Raises:
            ConfigError: A setting is wrong.
            TableError: The table cannot be used.
            ApiError: Mynth refuses the key, or cannot be reached.
        """
        batch = _batch_of(batch)

        async def work(session: Session) -> BatchQuote:
            source = await asyncio.to_thread(_source_of, prompts, batch.name)
            written = await prepare(session, batch, source, window=partition)
            plan, quote = await draft_quote(session, ImageWork(batch), batch.slices(partition))
            units = quote.total_units
            return BatchQuote(
                n_rows=sum(summary.n_rows for summary in written),
                n_rejected=sum(summary.n_rejected for summary in written),
                n_to_send=plan.n_to_send,
                cost_usd=None if units is None else usd_from_units(units),
                notes=(*source.notes, *quote.notes),
            )

        return self.in_session(work)

    def submit(
        self,
        prompts: Any,
        batch: Batch | str,
        *,
        partition: str = "",
        retry: Literal["none", "retryable", "failed", "partial"] = "none",
        confirm: bool = False,
    ) -> pd.DataFrame:
        """
        Check a table of prompts and send what was not sent yet, each row at most once.

        Args:
            prompts: As of `quote`.
            batch: As of `quote`.
            partition: As of `quote`.
            retry: Finished rows to send and pay for again: `retryable` ones failed and may end
                otherwise, `failed` are all that failed, `partial` also those that lack images.
            confirm: Whether many rows may be paid for again.

        Returns:
            The table `tasks`: a row for each paid request.

        Raises:
            ConfigError, TableError, ApiError: As of `quote`; nothing was sent.
            ConfirmationNeededError: Much would be paid for again; nothing was sent.
            RunStoppedError: Sending ended early: why, what was created, what to do next.
        """
        batch, stop = _batch_of(batch), CancelToken()
        slices = batch.slices(partition)

        async def work(session: Session) -> None:
            source = await asyncio.to_thread(_source_of, prompts, batch.name)
            await prepare(session, batch, source, window=partition)
            report = await submit(
                session,
                ImageWork(batch),
                slices,
                submitter=f"resource {os.urandom(4).hex()}",
                stop=stop,
                options=RunOptions(Retry(retry), confirm=confirm),
            )
            for slice_ in slices:
                await write_tasks(session, batch, slice_)
            report.require_all_sent("Rows are left to send.")

        self.in_session(work, stop=stop)
        return self._read(batch, TASKS, slices)

    def wait(self, batch: Batch | str, *, partition: str = "") -> MynthResource:
        """
        Wait until nothing of the batch is pending before its deadline. Reads only; costs nothing.

        Returns:
            This resource, so that `collect` can follow.

        Raises:
            ApiError: Mynth refuses the key, or cannot be reached.
        """
        batch, stop = _batch_of(batch), CancelToken()

        async def work(session: Session) -> None:
            slices = batch.slices(partition)
            await wait_until_idle(session, ImageWork(batch), slices, stop=stop)

        self.in_session(work, stop=stop)
        return self

    def collect(self, batch: Batch | str, *, partition: str = "") -> BatchResults:
        """
        Write the result tables of what is finished, and read them. Costs nothing.

        Raises:
            ApiError: Mynth refuses the key, or cannot be reached.
        """
        batch = _batch_of(batch)
        slices = batch.slices(partition)

        async def work(session: Session) -> None:
            async for _ in collect(session, batch, slices):
                pass

        self.in_session(work)
        return BatchResults(*(self._read(batch, table, slices) for table in (IMAGES, FAILURES)))

    def status(self, batch: Batch | str, *, partition: str | None = None) -> BatchStatus:
        """
        Poll Mynth once and count tasks and money; `partition` None: of the whole batch.

        Raises:
            ApiError: Mynth refuses the key, or cannot be reached.
        """
        batch = _batch_of(batch)

        async def work(session: Session) -> BatchStatus:
            await partition_status(session, batch, budget_s=STATUS_BUDGET_S)
            name, read = batch.ledger_name, session.ledger.read
            rows = await asyncio.to_thread(read.partitions, name)
            slices = [
                batch.slice(row.window, row.fan_out)
                for row in rows
                if partition in (None, row.window)
            ]
            receipt = await asyncio.to_thread(read.receipt, name, slices)
            by_state = Counter[str]()
            for count in await asyncio.to_thread(read.counts, name, slices):
                by_state[count.state.value] += count.n_intents
            return BatchStatus(
                rows_by_state=dict(sorted(by_state.items())),
                charged_usd=usd_from_units(receipt.charged),
                open_usd=usd_from_units(receipt.open),
                unknown_usd=usd_from_units(receipt.unknown),
            )

        return self.in_session(work)

    def _read(self, batch: Batch, table: str, slices: Sequence[Slice]) -> pd.DataFrame:
        store = TableStore(self.root, batch.name)
        tables = [
            pa.Table.from_batches(
                store.iter_batches(table, slice_), store.read_schema(table, slice_)
            )
            for slice_ in slices
        ]
        frame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        assert isinstance(frame, pd.DataFrame)
        return frame

    def in_session(
        self,
        work: Callable[[Session], Awaitable[T]],
        *,
        stop: CancelToken | None = None,
        notices: Notices | None = None,
        watch: Watch = lambda: "",
        settings: EngineSettings | None = None,
    ) -> T:
        """
        Open a session, do the work on the engine's thread, and wait for it here.

        Args:
            watch: Returns why the work has to end, if it has to.
            settings: By default those of this resource.
        """
        settings = settings or self.engine_settings()

        async def in_session() -> T:
            async with open_session(settings) as session:
                return await work(session)

        return run_on_engine_thread(
            in_session, stop=stop or CancelToken(), notices=notices, watch=watch
        )


def _batch_of(batch: Batch | str) -> Batch:
    return Batch(batch) if isinstance(batch, str) else batch


def _source_of(prompts: Any, name: str) -> PromptSource:
    if isinstance(prompts, str):
        return open_source(prompts)
    return source_from_arrow(as_arrow(prompts, name), name)


_SHARED: dict[str, MynthResource] = {}


def shared_resource(resource: MynthResource) -> MynthResource:
    """Return one object for equal settings: Dagster refuses two different ones under one key."""
    if type(resource) is not MynthResource:
        return resource  # of a user's own class, who knows what makes two of them equal
    return _SHARED.setdefault(repr(resource.model_dump()), resource)
