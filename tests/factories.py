"""Values for tests, valid by default; every field can be given."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mynth_dagster.clock import ManualClock
from mynth_dagster.models.intent import Intent, RowKey, intent_id
from mynth_dagster.models.request import RowRequest, request_hash
from mynth_dagster.models.task import ImageOutcome, Task, TaskStatus
from mynth_dagster.models.transitions import IntentState

START_US = 1_795_000_000_000_000
LEDGER_ID = "led_aaaaaaaaaaaa"
MODEL = "black-forest-labs/flux.2-dev"
WITH_INPUTS = "black-forest-labs/flux.2-pro"
"""Takes input images in every revision."""
KEY = "mak_simulator"


def delete_destinations(base_url: str) -> None:
    """Somebody deletes all of the account's storage at Mynth."""
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=base_url, headers=headers, trust_env=False) as client:
        for entry in client.get("/destinations").json()["data"]:
            assert client.delete(f"/destinations/{entry['id']}").status_code == 204


class LeapingClock(ManualClock):
    """
    A manual clock on which sleeping takes no time: whoever sleeps moves it forward.

    Each look at the wall clock is a microsecond later than the one before, as in life.
    """

    def now_us(self) -> int:
        self._now_us += 1
        return self._now_us

    async def sleep(self, delay_s: float) -> None:
        self.advance(max(delay_s, 0.0))
        await asyncio.sleep(0)


def make_intent(key: str = "p1", **fields: Any) -> Intent:
    """An intent of row ``key``, freshly claimed as `sending`."""
    row = fields.pop("row", None) or RowKey(fields.pop("batch", "b"), fields.pop("window", ""), key)
    generation = fields.get("generation", 1)
    made = Intent(
        intent_id=intent_id(LEDGER_ID, row, generation),
        row=row,
        prompt_id=key,
        fan_out="",
        generation=generation,
        attempt=1,
        state=IntentState.SENDING,
        request_hash=request_hash(RowRequest(prompt=key, model=MODEL)),
        model=MODEL,
        n_asked=1,
        claimed_at_us=START_US,
        send_by_us=START_US + 30_000_000,
        quoted_units=1_000_000,
    )
    return replace(made, **fields)


def make_task(task_id: str = "tsk_1", **fields: Any) -> Task:
    """A completed task with one image."""
    made = Task(
        task_id=task_id,
        status=TaskStatus.COMPLETED,
        created_at_us=START_US,
        updated_at_us=START_US + 5_000_000,
        model=MODEL,
        images=(make_image(),),
        cost_units=1_000_000,
    )
    return replace(made, **fields)


def make_image(index: int = 0, **fields: Any) -> ImageOutcome:
    """A delivered image."""
    made = ImageOutcome(
        index=index,
        image_id=f"img_{index}",
        url=f"https://cdn.mynth.io/{index}.webp",
        width=1024,
        height=1024,
        format="webp",
        cost_units=1_000_000,
    )
    return replace(made, **fields)


def draw_input(folder: Path, number: int, *, form: str = "PNG", side: int = 64) -> Path:
    """An image file of noise that is the same for the same number; about 12 KB."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"input-{number:03d}.{form.lower()}"
    noise = random.Random(number).randbytes(side * side * 3)
    Image.frombytes("RGB", (side, side), noise).save(path, form)
    return path


def write_parquet(
    path: Path, rows: pa.Table | Sequence[dict[str, Any]] | int, **columns: Any
) -> str:
    """A prompt table of these rows, or of so many prompts `prompt 0`, `prompt 1`, …; its path."""
    if isinstance(rows, pa.Table):
        pq.write_table(rows, path)
        return str(path)
    if isinstance(rows, int):
        rows = [{"prompt_id": f"p{n:05d}", "prompt": f"prompt {n}"} for n in range(rows)]
    table = pa.Table.from_pylist([{**row, **columns} for row in rows])
    pq.write_table(table, path)
    return str(path)
