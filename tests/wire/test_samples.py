"""Golden samples: what the vendor's pages, clients and fixtures show, decoded exactly."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mynth_dagster import errors
from mynth_dagster.client.http import Response
from mynth_dagster.client.outcome import Accepted, Refused, Unknown, sort_answer
from mynth_dagster.wire import PROFILES, decode
from mynth_dagster.wire.decode import parse_json

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*/*.json"))

DECODERS = {
    "created": decode.decode_created,
    "status": partial(decode.decode_status, task_id="tsk_A"),
    "page": decode.decode_page,
    "estimate": decode.decode_estimate,
    "catalog": decode.decode_catalog,
    "account": decode.decode_account,
    "balance": decode.decode_balance,
    "upload": decode.decode_upload,
    "result": decode.decode_result,
    "destinations": decode.decode_destinations,
    "webhook": decode.decode_webhook,
}


def load(path: Path) -> tuple[dict[str, Any], bytes]:
    """A sample, and its body as the wire carries it."""
    sample = json.loads(path.read_text("utf-8"))
    return sample, json.dumps(sample["body"]).encode("utf-8")


def shown(value: Any) -> Any:
    """A decoded value as plain JSON, without what is not there."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return shown(asdict(value))
    if isinstance(value, dict):
        return {key: shown(v) for key, v in value.items() if v not in (None, (), {}, [])}
    if isinstance(value, frozenset):
        return sorted(value)
    return [shown(entry) for entry in value] if isinstance(value, tuple | list) else value


def samples(*, errors_only: bool) -> list[Any]:
    """The samples of successes or of errors, named for the report."""
    chosen = [path for path in SAMPLES if path.name.startswith("error_") is errors_only]
    return [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in chosen]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_sample_names_its_source(path):
    """A sample without a source would be an invention."""
    sample, _ = load(path)

    assert sample["source"]


@pytest.mark.parametrize("path", samples(errors_only=False))
def test_a_success_decodes_to_exactly_the_expected_value(path):
    """Each documented success reads as the value beside it, and as nothing more."""
    sample, raw = load(path)
    revision, body = path.parent.name, parse_json(raw)

    if sample["kind"] == "task":
        found = PROFILES[revision].decode_task("read", body)
    else:
        found = DECODERS[sample["kind"]]("read", body, revision=revision)

    if sample["kind"] == "status":
        found = {"status": found}
    assert shown(found) == sample["expected"]


@pytest.mark.parametrize("path", samples(errors_only=True))
def test_an_error_becomes_the_exception_it_means(path):
    """Each documented error is told by class, code, message and field."""
    sample, raw = load(path)
    expected = sample["expected"]

    error = decode.decode_refusal("create", sample["status"], {}, raw, now_us=0)

    assert type(error) is getattr(errors, expected["class"])
    assert error.status == sample["status"]
    assert (error.code, error.message, error.field) == (
        expected["code"],
        expected["message"],
        expected["field"],
    )
    assert error.body == parse_json(raw)


@pytest.mark.parametrize("path", samples(errors_only=True))
def test_an_error_as_the_answer_to_the_paid_call_says_who_must_act(path):
    """A refusal names its cause; a 5xx is unknown unless it tells a task."""
    sample, raw = load(path)
    answer = Response(sample["status"], {}, raw)

    sorted_ = sort_answer("create", answer, PROFILES[path.parent.name], now_us=0)

    if sample["expected"]["cause"] is not None:
        assert isinstance(sorted_, Refused)
        assert sorted_.cause.value == sample["expected"]["cause"]
    elif path.stem == "error_server_fault_with_task":
        assert isinstance(sorted_, Accepted)
        assert sorted_.created.task_id == "tsk_A"
    else:
        assert isinstance(sorted_, Unknown)


def test_every_revision_has_samples_of_what_it_offers():
    """No kind of answer that a revision gives is without a sample."""
    kinds = {(path.parent.name, load(path)[0]["kind"]) for path in SAMPLES}

    assert {("2026-04", k) for k in ("created", "status", "task", "upload", "error")} <= kinds
    since_10 = {"result", "destinations", "webhook"}
    assert {("2026-08", k) for k in {*DECODERS, "task", "error"} - since_10} <= kinds
    assert {("2026-10", k) for k in (*DECODERS, "task", "error")} <= kinds
