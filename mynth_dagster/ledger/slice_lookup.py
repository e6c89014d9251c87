"""The ledger as the result tables of one partition see it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice

from mynth_dagster.ledger.ledger import Ledger
from mynth_dagster.ledger.queries import IN_MAX
from mynth_dagster.models.batch import Slice
from mynth_dagster.models.failure import Download
from mynth_dagster.models.intent import Intent, SurplusTask
from mynth_dagster.models.task import PublicAccessToken, Task


class SliceLookup:
    """What is known of one partition; tokens only where they are to be handed out."""

    def __init__(
        self, ledger: Ledger, batch: str, slice_: Slice, *, with_tokens: bool = False
    ) -> None:
        self._ledger, self._batch, self._slice = ledger, batch, slice_
        self._tokens = ledger.tokens if with_tokens else None

    def intents_for(self, request_keys: Sequence[str]) -> Mapping[str, Sequence[Intent]]:
        return self._ledger.read.intents_for(self._batch, self._slice.window, request_keys)

    def tasks_for(self, task_ids: Sequence[str]) -> Mapping[str, Task]:
        return self._ledger.outcomes.tasks_for(task_ids)

    def surplus_for(self, intent_ids: Sequence[str]) -> Mapping[str, Sequence[SurplusTask]]:
        return self._ledger.outcomes.surplus_for(intent_ids)

    def downloads_for(self, intent_ids: Sequence[str]) -> Mapping[str, Mapping[int, Download]]:
        return self._ledger.outcomes.downloads_for(intent_ids)

    def tokens_for(self, task_ids: Sequence[str]) -> Mapping[str, PublicAccessToken]:
        return self._tokens.of(task_ids) if self._tokens else {}

    def n_rows(self) -> int:
        return self._ledger.read.n_rows_of_slice(self._batch, self._slice)

    def removed(self, seen: Container[str]) -> Iterator[list[Intent]]:
        known = self._ledger.read.keys_of_slice(self._batch, self._slice)
        gone = (intent_id for key, intent_id in known if key not in seen)
        while ids := list(islice(gone, IN_MAX)):
            found = self._ledger.read.intents_by_id(ids)
            yield [found[intent_id] for intent_id in ids]
