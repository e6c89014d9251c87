"""
From a slice's prompt table and what is known of its intents to `tasks`, `images`, `failures`.

The three tables are written together, in the order of the prompt rows, and carry the ledger's
version that they show. Equal knowledge makes equal bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import pyarrow as pa

from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import Download
from mynth_dagster.models.intent import Intent, SurplusTask, choose_current
from mynth_dagster.models.task import PublicAccessToken, Task
from mynth_dagster.models.transitions import FINAL, STALLED, IntentState
from mynth_dagster.tables.accounting import AskedRow, RowAccount, account_for
from mynth_dagster.tables.files import FAILURES, IMAGES, PROMPTS, TASKS, VERSION_KEY, TableStore
from mynth_dagster.tables.prompt_schema import carried_schema
from mynth_dagster.tables.result_counts import FailureKind, ResultCounts, SampleImage, rows_in_words
from mynth_dagster.tables.result_rows import (
    GatheredRows,
    failure_row,
    image_row,
    surplus_row,
    task_row,
)
from mynth_dagster.tables.result_schemas import TASKS_SCHEMA, failures_schema, images_schema
from mynth_dagster.tables.row_ids import SeenKeys
from mynth_dagster.tables.staging import StagedTable, staged_tables

PROMPT_ROWS_AT_ONCE = 256  # a row may have a hundred images
RESULT_ROW_GROUP_ROWS = 2048  # three tables keep one each, plain, until it is written

RESULT_TABLES = (TASKS, IMAGES, FAILURES)

_ASKED_COLUMNS = ("prompt_id", "request_key", "request_hash", "prompt", "model", "count")
_PROBLEM_COLUMNS = ("problem_code", "problem_field", "problem_message")


class IntentLookup(Protocol):
    """What is known of one slice's rows, at one version of the partition."""

    def intents_for(self, request_keys: Sequence[str]) -> Mapping[str, Sequence[Intent]]:
        """All generations of each row that has any, by request key."""
        ...

    def tasks_for(self, task_ids: Sequence[str]) -> Mapping[str, Task]:
        """The finished tasks that were read, by id."""
        ...

    def surplus_for(self, intent_ids: Sequence[str]) -> Mapping[str, Sequence[SurplusTask]]:
        """Further tasks of intents, by intent id, in a stable order."""
        ...

    def downloads_for(self, intent_ids: Sequence[str]) -> Mapping[str, Mapping[int, Download]]:
        """What became of the files of intents' images, by intent id and image index."""
        ...

    def tokens_for(self, task_ids: Sequence[str]) -> Mapping[str, PublicAccessToken]:
        """The tokens that are handed out, by task id."""
        ...

    def n_rows(self) -> int:
        """Rows of the slice that have an intent, also those that are gone from the table."""
        ...

    def removed(self, seen: Container[str]) -> Iterable[Sequence[Intent]]:
        """The slice's intents whose request key is not in ``seen``, in a stable order."""
        ...


@dataclass(frozen=True)
class ResultsSummary:
    """
    What the three tables of a slice hold.

    Money is in units of 10⁻⁸ USD, over all rows of `tasks`.

    Args:
        rows_by_status: The shown status of each prompt row.
        failures_by_code: Over all failures, of rows and of images.
        n_images_asked: Images that good rows asked for.
        n_images_missing: Those of them that are not there, for whatever reason.
        n_images_beyond_asked: Images that a row was given beyond its count; each is paid for.
        n_files: Images whose file is kept.
        n_undownloaded: Failures that are failed downloads; their images are counted as images.
        reserved_units: Known reservations of intents that are not final.
        charged_units: Known charges.
        n_cost_unknown: Rows of `tasks` that may have cost something not known yet.
        median_task_s: Seconds that a task took, by Mynth's clock; None where none ended.
        images: The first ones, for people.
        images_by_level: Rated images by their content rating's level.
        rows_by_level: The first rows that have such images, by their prompt ids.
        failure_kinds: By code, the most frequent first, for people.
    """

    slice: Slice
    version: int
    uris: dict[str, str]
    n_rows: int = 0
    n_images_asked: int = 0
    n_images_missing: int = 0
    n_images: int = 0
    n_images_beyond_asked: int = 0
    n_failures: int = 0
    n_files: int = 0
    n_undownloaded: int = 0
    n_tasks: int = 0
    rows_by_status: dict[str, int] = field(default_factory=dict)
    failures_by_code: dict[str, int] = field(default_factory=dict)
    reserved_units: int = 0
    charged_units: int = 0
    n_cost_unknown: int = 0
    median_task_s: float | None = None
    images: tuple[SampleImage, ...] = ()
    images_by_level: dict[str, int] = field(default_factory=dict)
    rows_by_level: dict[str, list[str]] = field(default_factory=dict)
    failure_kinds: tuple[FailureKind, ...] = ()

    @property
    def rows_in_words(self) -> str:
        """What became of the rows, as sums that add up."""
        return rows_in_words(self.rows_by_status)

    @property
    def n_unresolved(self) -> int:
        return self.rows_by_status.get(IntentState.UNRESOLVED.value, 0)

    @property
    def n_stalled(self) -> int:
        return self.rows_by_status.get(STALLED, 0)

    @property
    def n_pending(self) -> int:
        """Rows still moving."""
        moving = (IntentState.SENDING, IntentState.ACCEPTED)
        return sum(self.rows_by_status.get(state.value, 0) for state in moving)


def write_results(
    store: TableStore,
    slice_: Slice,
    *,
    lookup: IntentLookup,
    version: int,
    now_us: int,
    stop_code: str | None = None,
    tables: Collection[str] = RESULT_TABLES,
    url_lifetime_us: int | None = None,
) -> ResultsSummary:
    """
    Write result tables of a slice, all three unless told otherwise, published together.

    ``now_us`` only decides which accepted rows are past their deadline; ``stop_code`` is said
    of good rows that nobody asked for; ``url_lifetime_us`` dates the URLs, None: unknown.

    Raises:
        TableError: There is no prompt table, or the results cannot be written.
        UnaccountedRowError: A row would not be accounted for exactly; nothing is published.
    """
    carried = carried_schema(store.read_schema(PROMPTS, slice_).remove_metadata())
    with staged_tables(store) as staging:
        schemas = {
            TASKS: TASKS_SCHEMA,
            IMAGES: images_schema(carried),
            FAILURES: failures_schema(carried),
        }
        footer = {VERSION_KEY: str(version)}
        opened: dict[str, StagedTable | _Unwritten] = {
            name: staging.open(
                name, slice_, schema, footer=footer, row_group_rows=RESULT_ROW_GROUP_ROWS
            )
            if name in tables
            else _Unwritten()
            for name, schema in schemas.items()
        }
        writing = _ResultTables(opened, slice_, carried, version, now_us, url_lifetime_us)
        for prompts in store.iter_batches(PROMPTS, slice_, batch_rows=PROMPT_ROWS_AT_ONCE):
            writing.add_prompts(prompts, lookup, stop_code)
        if lookup.n_rows() != writing.n_known:
            for intents in lookup.removed(_keys_of(store, slice_)):
                writing.add_removed(intents, lookup)
    return writing.summary()


class _Unwritten:
    """Stands for a table that is counted and not written."""

    uri = ""

    def __init__(self) -> None:
        self.n_rows = 0

    def write(self, rows: pa.RecordBatch) -> None:
        self.n_rows += rows.num_rows


class _ResultTables:
    """The three tables of one slice being written, and their counts."""

    def __init__(
        self,
        tables: Mapping[str, StagedTable | _Unwritten],
        slice_: Slice,
        carried: pa.Schema,
        version: int,
        now_us: int,
        url_lifetime_us: int | None,
    ) -> None:
        self._tables = tables
        self._tasks = GatheredRows(TASKS_SCHEMA)
        self._images = GatheredRows(images_schema(carried), carried.names)
        self._failures = GatheredRows(failures_schema(carried), carried.names)
        self._slice, self._version, self._now_us = slice_, version, now_us
        self._url_lifetime_us = url_lifetime_us
        self._counts = ResultCounts()
        self.n_known = 0

    def add_prompts(
        self, prompts: pa.RecordBatch, lookup: IntentLookup, stop_code: str | None
    ) -> None:
        """Account for a batch of prompt rows."""
        asked = list(_asked_rows(prompts))
        found = lookup.intents_for([row.request_key for row in asked])
        known = _details(lookup, list(chain.from_iterable(found.values())))
        for place, row in enumerate(asked):
            intents = sorted(found.get(row.request_key, ()), key=lambda intent: intent.generation)
            self.n_known += any(intent.fan_out == self._slice.fan_out for intent in intents)
            self._add_tasks(intents, choose_current(intents, row.request_hash or ""), known)
            account = account_for(
                row,
                intents,
                known.tasks,
                now_us=self._now_us,
                stop_code=stop_code,
                downloads=known.downloads,
            )
            self._add_account(place, row, account)
        self._write(TASKS, self._tasks.take())
        self._write(IMAGES, self._images.take(prompts))
        self._write(FAILURES, self._failures.take(prompts))

    def add_removed(self, intents: Sequence[Intent], lookup: IntentLookup) -> None:
        """List intents whose rows are gone; they are polled and charged all the same."""
        self._add_tasks(intents, None, _details(lookup, intents))
        self._write(TASKS, self._tasks.take())

    def _write(self, table: str, pieces: Iterator[pa.RecordBatch]) -> None:
        for rows in pieces:
            self._tables[table].write(rows)

    def summary(self) -> ResultsSummary:
        counts = self._counts
        return ResultsSummary(
            slice=self._slice,
            version=self._version,
            uris={name: table.uri for name, table in self._tables.items() if table.uri},
            n_rows=counts.n_rows,
            n_images_asked=counts.n_images_asked,
            n_images_missing=counts.n_images_missing,
            n_images=self._tables[IMAGES].n_rows,
            n_images_beyond_asked=counts.n_images_beyond_asked,
            n_failures=self._tables[FAILURES].n_rows,
            n_files=counts.n_files,
            n_undownloaded=counts.n_undownloaded,
            n_tasks=self._tables[TASKS].n_rows,
            rows_by_status=dict(sorted(counts.statuses.items())),
            failures_by_code=counts.codes,
            reserved_units=counts.reserved_units,
            charged_units=counts.charged_units,
            n_cost_unknown=counts.n_cost_unknown,
            median_task_s=counts.median_task_s,
            images=tuple(counts.images),
            images_by_level=dict(sorted(counts.levels.items())),
            rows_by_level=counts.rows_by_level,
            failure_kinds=tuple(sorted(counts.kinds.values(), key=_by_frequency)),
        )

    def _add_tasks(self, intents: Sequence[Intent], current: Intent | None, known: _Known) -> None:
        shard = self._slice.fan_out
        for intent in intents:
            row = task_row(
                intent,
                shard=shard,
                current=intent is current,
                now_us=self._now_us,
                task=known.tasks.get(intent.task_id or ""),
                token=known.tokens.get(intent.task_id or ""),
            )
            self._tasks.add(row)
            self._counts.add_intent(intent)
            for further in known.surplus.get(intent.intent_id, ()):
                self._tasks.add(surplus_row(further, intent, shard=shard))
                self._counts.add_surplus(further)

    def _add_account(self, place: int, row: AskedRow, account: RowAccount) -> None:
        for image in account.images:
            cells = image_row(row, account, image, url_lifetime_us=self._url_lifetime_us)
            self._images.add(cells, place)
        for failure in (*account.failures, *account.undownloaded):
            self._failures.add(failure_row(row, failure), place)
        self._counts.add_account(row, account)


@dataclass(frozen=True)
class _Known:
    """
    What is known beside some intents themselves, by task id.

    `surplus` and `downloads` are by intent id.
    """

    tasks: Mapping[str, Task]
    surplus: Mapping[str, Sequence[SurplusTask]]
    tokens: Mapping[str, PublicAccessToken]
    downloads: Mapping[str, Mapping[int, Download]]


def _details(lookup: IntentLookup, intents: Sequence[Intent]) -> _Known:
    finished = [intent.task_id for intent in intents if intent.task_id and intent.state in FINAL]
    return _Known(
        lookup.tasks_for(finished),
        lookup.surplus_for([intent.intent_id for intent in intents]),
        lookup.tokens_for([intent.task_id for intent in intents if intent.task_id]),
        lookup.downloads_for([intent.intent_id for intent in intents if intent.task_id]),
    )


def _keys_of(store: TableStore, slice_: Slice) -> SeenKeys:
    """Only where rows are gone: a set of all keys is the most memory that writing can take."""
    keys = SeenKeys()
    for prompts in store.iter_batches(PROMPTS, slice_, columns=["request_key"]):
        for key in prompts.column("request_key").to_pylist():
            keys.add(key)
    return keys


def _by_frequency(kind: FailureKind) -> tuple[int, str]:
    return -kind.n_failures, kind.code


def _asked_rows(prompts: pa.RecordBatch) -> Iterator[AskedRow]:
    asked = [prompts.column(name).to_pylist() for name in _ASKED_COLUMNS]
    problems = zip(*(prompts.column(name).to_pylist() for name in _PROBLEM_COLUMNS), strict=True)
    return map(AskedRow, *asked, problems)
