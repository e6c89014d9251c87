"""A task that gives more images than its row asked for: each is paid for, shown and told."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from mynth_dagster.cli.run import print_report
from mynth_dagster.models.batch import Slice
from mynth_dagster.tables.audit import audit_slice
from mynth_dagster.tables.store import TableStore
from tests.engine.edge import HostileEdge, of_tasks


def twice(task: dict[str, Any]) -> dict[str, Any]:
    """The task with every image given two times."""
    result = task.get("result") or {}
    return {**task, "result": {**result, "images": [*result.get("images", ())] * 2}}


@pytest.mark.parametrize("count", [1, 3])
def test_images_beyond_the_number_asked_for_are_shown_counted_and_reported(new_bench, count):
    """Nothing is thrown away, and the row is accounted for."""
    work = new_bench()

    report = work.run(4, transport=HostileEdge(of_tasks(twice)), count=count)

    assert (report.images, report.images_asked) == (8 * count, 4 * count)
    assert report.images_beyond_asked == report.to_json()["images_beyond_asked"] == 4 * count
    assert len(work.table("images")) == 8 * count
    assert audit_slice(TableStore(str(work.root), "b"), Slice()).passed
    said = StringIO()
    print_report(Console(file=said), report)
    assert f"{4 * count} images are beyond the number that their rows ask for" in said.getvalue()


def test_nothing_is_reported_where_each_row_has_what_it_asked_for(new_bench):
    """The common case needs no words."""
    report = new_bench().run(2)
    said = StringIO()
    print_report(Console(file=said), report)

    assert report.images_beyond_asked == 0
    assert "more than" not in said.getvalue()
