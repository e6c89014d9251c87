"""
From a slice's prompt table and what is known of its intents to `tasks`, `images`, `failures`.

The three tables are written together, in the order of the prompt rows, and carry the ledger's
version that they show. Equal knowledge makes equal bytes.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from statistics import median
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mynth_dagster.clock import US_PER_S
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import (
    NOT_SUBMITTED,
    REJECTED_INPUT,
    Download,
    Failure,
    MoneyOutcome,
    failure_of_intent,
)
from mynth_dagster.models.intent import Intent, SurplusTask, choose_current
from mynth_dagster.models.money import usd_from_units
from mynth_dagster.models.task import PublicAccessToken, Task, TaskStatus
from mynth_dagster.models.transitions import FINAL, RESTING, STALLED, IntentState
from mynth_dagster.tables.accounting import (
    DELIVERING,
    AskedRow,
    DeliveredImage,
    RowAccount,
    account_for,
)
from mynth_dagster.tables.parquet import repeated_pieces
from mynth_dagster.tables.schemas import carried_schema, schema_of
from mynth_dagster.tables.store import (
    FAILURES,
    IMAGES,
    PROMPTS,
    TASKS,
    VERSION_KEY,
    StagedTable,
    TableStore,
    staged_tables,
)

PROMPT_ROWS_AT_ONCE = 256  # a row may have a hundred images
RESULT_ROW_GROUP_ROWS = 2048  # three tables keep one each, plain, until it is written

RESULT_TABLES = (TASKS, IMAGES, FAILURES)

_ASKED_COLUMNS = ("prompt_id", "request_key", "request_hash", "prompt", "model", "count")
_PROBLEM_COLUMNS = ("problem_code", "problem_field", "problem_message")

SAMPLE_IMAGES = 24
UNRATED = "(not rated)"
EXAMPLES_PER_CODE = 3

_S = IntentState
_UNSENT_IN_WORDS = {
    REJECTED_INPUT: "rejected",
    NOT_SUBMITTED: "not sent",
    _S.WITHHELD.value: "not sent",
    _S.NOT_ACCEPTED.value: "not sent",
}
_SENT_IN_WORDS = {
    _S.COMPLETED.value: "delivered",
    _S.PARTIAL.value: "delivered in part",
    _S.FAILED.value: "failed",
    _S.REJECTED.value: "refused",
    _S.SENDING.value: "pending",
    _S.ACCEPTED.value: "pending",
    STALLED: "stalled",
}

_OPEN = frozenset({_S.UNRESOLVED.value, STALLED, _S.SENDING.value, _S.ACCEPTED.value})
_NEVER_CHARGED = frozenset({IntentState.WITHHELD, IntentState.NOT_ACCEPTED, IntentState.REJECTED})


@dataclass
class ResultsSummary:
    """
    What the three tables of a slice hold; counted while they are written.

    Money is in units of 10⁻⁸ USD, over all rows of `tasks`.

    Args:
        rows_by_status: The shown status of each prompt row.
        n_images_asked: Images that good rows asked for.
        n_images_missing: Those of them that are not there, for whatever reason.
        n_images_beyond_asked: Images that a row was given beyond its count; each is paid for.
        n_files: Images whose file is kept.
        n_undownloaded: Failures that are failed downloads; their images are counted as images.
        reserved_units: Known reservations of intents that are not final.
        charged_units: Known charges.
        n_cost_unknown: Rows of `tasks` that may have cost something not known yet.
        images: The first ones, for people.
        images_by_level: Rated images by their content rating's level.
        rows_by_level: The first rows that have such images, by their prompt ids.
        failure_kinds: By code, the most frequent first, for people.
        median_task_s: Seconds that a task took, by Mynth's clock; None where none ended.
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
    reserved_units: int = 0
    charged_units: int = 0
    n_cost_unknown: int = 0
    images: tuple[SampleImage, ...] = ()
    images_by_level: dict[str, int] = field(default_factory=dict)
    rows_by_level: dict[str, list[str]] = field(default_factory=dict)
    failure_kinds: tuple[FailureKind, ...] = ()
    median_task_s: float | None = None

    @property
    def rows_in_words(self) -> str:
        """What became of the rows, as sums that add up."""
        return rows_in_words(self.rows_by_status)

    @property
    def failures_by_code(self) -> dict[str, int]:
        """Over all failures, of rows and of images."""
        counts = {kind.code: kind.n_failures for kind in self.failure_kinds}
        return dict(sorted(counts.items()))

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


@dataclass(frozen=True)
class SampleImage:
    """
    One of the first images of a slice.

    `intent_id` and `image_index` (0-based) name it; money is in units of 10⁻⁸ USD.
    """

    intent_id: str
    image_index: int
    prompt_id: str
    prompt: str
    model: str
    url: str | None
    mynth_url: str | None = None
    width: int | None = None
    height: int | None = None
    cost_units: int | None = None
    file_uri: str | None = None

    @property
    def link(self) -> str | None:
        """Where the full image is."""
        return self.url or self.mynth_url


@dataclass
class FailureKind:
    """
    Failures of one code: how many, the first ones' prompt ids, and one of them in words.

    `n_open`: of rows that wait for evidence or for their task.
    """

    code: str
    message: str
    next_step: str
    money: MoneyOutcome
    n_failures: int = 0
    n_retryable: int = 0
    examples: list[str] = field(default_factory=list)
    n_open: int = 0


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
            TASKS: schema_of(TASKS),
            IMAGES: schema_of(IMAGES, carried),
            FAILURES: schema_of(FAILURES, carried),
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
        uris = {name: table.uri for name, table in opened.items() if table.uri}
        summary = ResultsSummary(slice_, version, uris)
        gathered = {
            name: GatheredRows(schema, () if name == TASKS else carried.names)
            for name, schema in schemas.items()
        }
        writing = _ResultTables(opened, gathered, summary, now_us, url_lifetime_us)
        for prompts in store.iter_batches(PROMPTS, slice_, batch_rows=PROMPT_ROWS_AT_ONCE):
            writing.add_prompts(prompts, lookup, stop_code)
        if lookup.n_rows() != writing.n_known:
            for intents in lookup.removed(_SeenKeys(store, slice_)):
                writing.add_removed(intents, lookup)
    writing.finish()
    return summary


def rows_in_words(by_status: Mapping[str, int]) -> str:
    """
    What became of prompt rows, by the statuses of all of them, as sums that add up.

    `8 rows = 1 rejected + 7 sent; 7 sent = 6 delivered + 1 failed`
    """
    unsent, sent = Counter[str](), Counter[str]()
    for status, n_rows in by_status.items():
        if status in _UNSENT_IN_WORDS:
            unsent[_UNSENT_IN_WORDS[status]] += n_rows
        else:
            sent[_SENT_IN_WORDS.get(status, status)] += n_rows
    rows = f"{unsent.total() + sent.total()} rows = {_added({**unsent, 'sent': sent.total()})}"
    return f"{rows}; {sent.total()} sent = {_added(sent)}" if sent.total() else rows


def add_example(examples: list[str], prompt_id: str) -> None:
    """Keep the first few rows, each once."""
    if len(examples) < EXAMPLES_PER_CODE and prompt_id not in examples:
        examples.append(prompt_id)


def _added(counts: Mapping[str, int]) -> str:
    return " + ".join(f"{n} {what}" for what, n in counts.items())


class _Unwritten:
    """Stands for a table that is counted and not written."""

    uri = ""

    def __init__(self) -> None:
        self.n_rows = 0

    def write(self, rows: pa.RecordBatch) -> None:
        self.n_rows += rows.num_rows


class _ResultTables:
    """The three tables of one slice being written, and the summary that they add up to."""

    def __init__(
        self,
        tables: Mapping[str, StagedTable | _Unwritten],
        gathered: Mapping[str, GatheredRows],
        summary: ResultsSummary,
        now_us: int,
        url_lifetime_us: int | None,
    ) -> None:
        self._tables = tables
        self._rows = gathered
        self._summary, self._now_us, self._url_lifetime_us = summary, now_us, url_lifetime_us
        self._kinds: dict[str, FailureKind] = {}
        self._task_s = array("d")
        self.n_known = 0

    def add_prompts(
        self, prompts: pa.RecordBatch, lookup: IntentLookup, stop_code: str | None
    ) -> None:
        """Account for a batch of prompt rows."""
        columns = (prompts.column(name).to_pylist() for name in _ASKED_COLUMNS)
        problems = zip(*(prompts.column(n).to_pylist() for n in _PROBLEM_COLUMNS), strict=True)
        asked = list(map(AskedRow, *columns, problems))
        known_intents = lookup.intents_for([row.request_key for row in asked])
        known = _details(lookup, list(chain.from_iterable(known_intents.values())))
        for place, row in enumerate(asked):
            intents = sorted(
                known_intents.get(row.request_key, ()), key=lambda intent: intent.generation
            )
            fan_out = self._summary.slice.fan_out
            self.n_known += any(intent.fan_out == fan_out for intent in intents)
            self._add_tasks(intents, choose_current(intents, row.request_hash or ""), known)
            account = account_for(
                row,
                intents,
                known.tasks,
                now_us=self._now_us,
                stop_code=stop_code,
                downloads=known.downloads,
            )
            for image in account.images:
                cells = image_row(row, account, image, url_lifetime_us=self._url_lifetime_us)
                self._rows[IMAGES].add(cells, place)
            for failure in (*account.failures, *account.undownloaded):
                self._rows[FAILURES].add(failure_row(row, failure), place)
                self._count_failure(row, failure)
            self._count(row, account)
        self._write(prompts)

    def add_removed(self, intents: Sequence[Intent], lookup: IntentLookup) -> None:
        """List intents whose rows are gone; they are polled and charged all the same."""
        self._add_tasks(intents, None, _details(lookup, intents))
        self._write()

    def finish(self) -> None:
        """Complete the summary."""
        summary = self._summary
        summary.n_tasks = self._tables[TASKS].n_rows
        summary.n_images = self._tables[IMAGES].n_rows
        summary.n_failures = self._tables[FAILURES].n_rows
        summary.median_task_s = median(self._task_s) if self._task_s else None
        kinds = sorted(self._kinds.values(), key=lambda kind: (-kind.n_failures, kind.code))
        summary.failure_kinds = tuple(kinds)
        summary.rows_by_status = dict(sorted(summary.rows_by_status.items()))
        summary.images_by_level = dict(sorted(summary.images_by_level.items()))

    def _write(self, prompts: pa.RecordBatch | None = None) -> None:
        for name, rows in self._rows.items():
            for piece in rows.take(prompts):
                self._tables[name].write(piece)

    def _add_tasks(self, intents: Sequence[Intent], current: Intent | None, known: _Known) -> None:
        summary = self._summary
        for intent in intents:
            row = task_row(
                intent,
                shard=summary.slice.fan_out,
                current=intent is current,
                now_us=self._now_us,
                task=known.tasks.get(intent.task_id or ""),
                token=known.tokens.get(intent.task_id or ""),
            )
            self._rows[TASKS].add(row)
            summary.charged_units += intent.charged_units or 0
            is_unknown = intent.charged_units is None and intent.state not in _NEVER_CHARGED
            summary.n_cost_unknown += is_unknown
            if intent.state not in FINAL:
                summary.reserved_units += intent.reserved_units or 0
            for further in known.surplus.get(intent.intent_id, ()):
                self._rows[TASKS].add(surplus_row(further, intent, shard=summary.slice.fan_out))
                cost = further.task.cost_units if further.task else None
                summary.charged_units += cost or 0
                summary.n_cost_unknown += cost is None

    def _count(self, row: AskedRow, account: RowAccount) -> None:
        summary, n_asked, n_images = self._summary, row.count or 0, len(account.images)
        summary.n_rows += 1
        by_status = summary.rows_by_status
        by_status[account.status] = by_status.get(account.status, 0) + 1
        if row.problem[0] is None:
            summary.n_images_asked += n_asked
            summary.n_images_missing += max(0, n_asked - n_images)
        summary.n_images_beyond_asked += max(0, n_images - n_asked)
        summary.n_undownloaded += len(account.undownloaded)
        summary.n_files += sum(image.file is not None for image in account.images)
        for outcome in (image.outcome for image in account.images):
            level = outcome.rating_level or (UNRATED if outcome.rating_error else None)
            if level is not None:
                by_level = summary.images_by_level
                by_level[level] = by_level.get(level, 0) + 1
                add_example(summary.rows_by_level.setdefault(level, []), row.prompt_id)
        missing = SAMPLE_IMAGES - len(summary.images)
        summary.images += tuple(_sampled(row, account, image) for image in account.images[:missing])
        task = account.task
        if task is not None and task.status.is_final:
            self._task_s.append((task.updated_at_us - task.created_at_us) / US_PER_S)

    def _count_failure(self, row: AskedRow, failure: Failure) -> None:
        code = failure.error_code
        if code not in self._kinds:
            self._kinds[code] = FailureKind(
                code, failure.error_message, failure.next_step, failure.money
            )
        kind = self._kinds[code]
        kind.n_failures += 1
        kind.n_retryable += failure.retryable
        kind.n_open += failure.status in _OPEN
        add_example(kind.examples, row.prompt_id)


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


class _SeenKeys:
    """The request keys of a prompt table, in 8 bytes each; only made where rows are gone."""

    def __init__(self, store: TableStore, slice_: Slice) -> None:
        batches = store.iter_batches(PROMPTS, slice_, columns=["request_key"])
        keys = (key for rows in batches for key in rows.column(0).to_pylist())
        self._hashes = np.sort(np.fromiter(map(hash, keys), np.int64))

    def __contains__(self, key: object) -> bool:
        place = np.searchsorted(self._hashes, hash(key))
        return bool(place < len(self._hashes) and self._hashes[place] == hash(key))


def _sampled(row: AskedRow, account: RowAccount, image: DeliveredImage) -> SampleImage:
    outcome = image.outcome
    assert account.intent is not None
    resolved = account.task.model if account.task else None
    return SampleImage(
        intent_id=account.intent.intent_id,
        image_index=outcome.index,
        prompt_id=row.prompt_id,
        prompt=row.prompt or "",
        model=resolved or row.model or "",
        url=outcome.url,
        mynth_url=outcome.mynth_url,
        width=outcome.width,
        height=outcome.height,
        cost_units=image.cost_units,
        file_uri=image.file.uri if image.file else None,
    )


# Rows of the three result tables, gathered as tuples and turned into Arrow.


class GatheredRows:
    """
    Rows of one table, in the order of its own columns.

    Carried columns are taken from the prompt rows by the places noted beside each row.
    """

    def __init__(self, schema: pa.Schema, carried: Sequence[str] = ()) -> None:
        self._schema = schema
        self._carried = carried
        self._rows: list[tuple[Any, ...]] = []
        self._places: list[int] = []

    def add(self, row: tuple[Any, ...], place: int = 0) -> None:
        self._rows.append(row)
        self._places.append(place)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, prompts: pa.RecordBatch | None = None) -> Iterator[pa.RecordBatch]:
        """The rows so far, with their prompt rows' carried columns, in pieces; starts anew."""
        n_own = len(self._schema) - len(self._carried)
        cells = zip(*self._rows, strict=True) if self._rows else [()] * n_own
        own = list(self._schema)[:n_own]
        arrays = [pa.array(cell, column.type) for cell, column in zip(cells, own, strict=True)]
        places, self._rows, self._places = self._places, [], []
        carried = [prompts.column(name) for name in self._carried] if prompts is not None else []
        for piece in repeated_pieces(carried, places):
            rows = pa.array(places[piece], pa.int32())
            n_rows = len(rows)
            values = [column.slice(piece.start, n_rows) for column in arrays]
            values += [column.take(rows) for column in carried]
            yield pa.RecordBatch.from_arrays(values, schema=self._schema)


def task_row(
    intent: Intent,
    *,
    shard: str,
    current: bool,
    now_us: int,
    task: Task | None,
    token: PublicAccessToken | None = None,
) -> tuple[Any, ...]:
    """The row of an intent in `tasks`."""
    code, message = intent.error_code, intent.error_message
    ended_badly = intent.state in (*RESTING, *FINAL) and intent.state not in DELIVERING
    if ended_badly:
        failure = failure_of_intent(intent, now_us=now_us, task=task)
        code, message = failure.error_code, failure.error_message
    return (
        intent.prompt_id,
        intent.row.request_key,
        shard,
        intent.intent_id,
        intent.generation,
        intent.attempt,
        current,
        intent.shown_status(now_us),
        intent.task_id,
        intent.model,
        _usd(intent.quoted_units),
        _usd(intent.reserved_units),
        _usd(intent.charged_units),
        intent.submitted_at_us,
        intent.completed_at_us,
        code,
        message,
        token.token if token else None,
        token.expires_at_us if token else None,
    )


def surplus_row(surplus: SurplusTask, intent: Intent, *, shard: str) -> tuple[Any, ...]:
    """The row of a further task of an intent in `tasks`; never current."""
    task = surplus.task
    ended = task is not None and task.status.is_final
    fault = task.faults[0] if task and task.faults else None
    return (
        intent.prompt_id,
        intent.row.request_key,
        shard,
        intent.intent_id,
        intent.generation,
        intent.attempt,
        False,
        task.status.value if task and ended else IntentState.ACCEPTED.value,
        surplus.task_id,
        intent.model,
        None,
        None,
        _usd(task.cost_units) if task else None,
        task.created_at_us if task else None,
        task.updated_at_us if task and ended else None,
        fault.code if fault else None,
        fault.message if fault else None,
        None,
        None,
    )


def image_row(
    row: AskedRow, account: RowAccount, image: DeliveredImage, *, url_lifetime_us: int | None
) -> tuple[Any, ...]:
    """The row of a delivered image in `images`, without carried columns."""
    intent, task, outcome = account.intent, account.task, image.outcome
    file = image.file
    assert intent is not None
    assert task is not None
    finished_us = task.updated_at_us if task.status is not TaskStatus.PENDING else None
    completed_us = finished_us if intent.completed_at_us is None else intent.completed_at_us
    is_dated = completed_us is not None and url_lifetime_us is not None
    return (
        row.prompt_id,
        row.request_key,
        outcome.index,
        outcome.image_id,
        outcome.url,
        outcome.mynth_url,
        row.model,
        task.model,
        outcome.width,
        outcome.height,
        outcome.format,
        _usd(image.cost_units),
        image.cost_basis,
        outcome.rating_level,
        outcome.rating_error,
        outcome.destination,
        outcome.destination_status,
        outcome.destination_error,
        account.metadata_json,
        row.prompt,
        row.prompt if task.prompt_sent is None else task.prompt_sent,
        task.task_id,
        intent.intent_id,
        task.created_at_us if intent.submitted_at_us is None else intent.submitted_at_us,
        completed_us,
        (completed_us or 0) + (url_lifetime_us or 0) if is_dated else None,
        file.uri if file else None,
        file.n_bytes if file else None,
        file.sha256 if file else None,
    )


def failure_row(row: AskedRow, failure: Failure) -> tuple[Any, ...]:
    """The row of a failure in `failures`, without carried columns."""
    return (
        row.prompt_id,
        row.request_key,
        failure.image_index,
        failure.stage.value,
        failure.status,
        failure.error_code,
        failure.error_message,
        failure.field,
        failure.http_status,
        failure.money.value,
        failure.retryable,
        failure.attempts,
        failure.task_id,
        failure.intent_id,
        failure.next_step,
    )


def _usd(units: int | None) -> Decimal | None:
    return None if units is None else usd_from_units(units)
