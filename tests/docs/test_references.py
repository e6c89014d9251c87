"""The pages that list what the code has: states, tables, the simulator's settings."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from decimal import Decimal

import dagster as dg
import pyarrow as pa
import pytest

import mynth_dagster
from mynth_dagster import (
    Checks,
    Delivery,
    Files,
    FollowUp,
    ImageRequest,
    MynthResource,
    build_image_batch,
)
from mynth_dagster.engine.quote import BUDGET_EXCEEDED
from mynth_dagster.engine.stop import CANCELLED
from mynth_dagster.errors import PriceUnknownError
from mynth_dagster.limits import LIMITS_BY_REVISION
from mynth_dagster.models.batch_settings import PROMPT_COLUMNS
from mynth_dagster.models.failure import _WORDS_BY_STATUS, NEVER_BETTER, next_for
from mynth_dagster.models.request import FollowUpKind
from mynth_dagster.models.transitions import FINAL, HELD, MOVING, TRANSITIONS, Event, IntentState
from mynth_dagster.simulator import (
    ApiKey,
    DeliveryRules,
    Destination,
    Distribution,
    Endpoint,
    FailureRule,
    FaultRule,
    Quirks,
    Scenario,
)
from mynth_dagster.simulator.scenario import FailureKind, FaultKind
from mynth_dagster.tables.columns import READING_CODES
from mynth_dagster.tables.rules import RULES
from mynth_dagster.tables.schemas import COLUMNS, schema_of
from tests.docs import reference
from tests.docs.markdown import DOCS, ROOT, blocks, code_in, read, rows, section

STATES = DOCS / "state-machine.md"
TABLES = DOCS / "tables.md"
SIMULATOR = DOCS / "simulator.md"
WIRE = DOCS / "wire.md"
OPERATIONS = DOCS / "operations.md"
SCHEMAS = {table: schema_of(table) for table in COLUMNS}


def test_states_page_draws_the_table_of_transitions():
    """Exactly the arrows of `models.transitions`, none more and none less."""
    (diagram,) = blocks(STATES, "mermaid")
    drawn = re.findall(r"^ +(\S+) --> (\S+) : (.+)$", diagram, re.MULTILINE)
    table = {
        ("[*]" if state is None else state.value, target.value, event.value)
        for (state, event), target in TRANSITIONS.items()
    }
    assert len(drawn) == len(TRANSITIONS)
    assert set(drawn) == table


def _kind_of(state: IntentState) -> str:
    if state in FINAL:
        return "final"
    if state in MOVING:
        return "moving"
    return "resting, held" if state in HELD else "resting"


def test_states_page_tells_each_state_with_its_kind():
    """Each state once, called moving, resting, held or final as the code has it."""
    told = {code_in(state)[0]: kind for state, kind, _ in rows(read(STATES), "state")}
    assert told == {state.value: _kind_of(state) for state in IntentState}


def test_states_page_tells_each_event():
    """Each event once, in the code's words."""
    assert [event for event, _ in rows(read(STATES), "event")] == [e.value for e in Event]


@pytest.mark.parametrize("table", SCHEMAS)
def test_tables_page_has_the_columns_of_the_code(table: str):
    """Names, order and types of each table's own columns."""
    told = [
        (code_in(column)[0], kind)
        for column, kind, *_ in rows(section(TABLES, f"`{table}`"), "column")
    ]
    assert told == [(column.name, _type_in_words(column.type)) for column in SCHEMAS[table]]


def _type_in_words(kind: pa.DataType) -> str:
    return "list of struct" if pa.types.is_list(kind) else str(kind)


def test_tables_page_has_the_prompt_columns():
    """Each column that means something in a prompt table."""
    told = rows(section(TABLES, "The prompt table that you bring"), "column")
    assert {name for row in told for name in code_in(row[0])} == set(PROMPT_COLUMNS)


def test_tables_page_has_the_problem_codes():
    """Each code that the checks of rows can give."""
    text = read(ROOT / "mynth_dagster" / "tables" / "inputs.py")
    of_files = set(re.findall(r'BadInput\(\s*"(\w+)"', text)) - {"input_changed"}  # found later
    line = next(line for line in read(TABLES).splitlines() if line.startswith("Problem codes:"))
    assert set(code_in(line)) == {rule.code for rule in RULES} | READING_CODES | of_files


def test_tables_page_has_each_status_of_a_failure():
    """Each status under which a row can be without an image."""
    told = {
        name
        for row in rows(section(TABLES, "What a failure means"), "`status`")
        for name in code_in(row[0])
    }
    statuses = set(_WORDS_BY_STATUS)  # a completed one by its failed downloads alone
    assert told == statuses | {"failed", "rejected_input", "not_submitted"}


def test_tables_page_advises_as_the_tables_do():
    """What failed may be asked for again by the retry that `next_step` names."""
    told = rows(section(TABLES, "What a failure means"), "`status`")
    for status, *_, advice in told[-1], next(row for row in told if row[0] == "`failed`"):
        named = code_in(status)[0]
        retry = "retryable" if named == "failed" else named
        assert f"retry: {retry}" in next_for("generation_failed", retry)
        assert f"`retry: {retry}`" in advice
        assert "would be refused again" in next_for(min(NEVER_BETTER), retry)
        assert "would be refused again" in advice


def test_operations_page_has_the_codes_of_a_stop():
    """Each reason that the engine gives for ending a run early."""
    text = read(ROOT / "mynth_dagster" / "engine" / "stop.py")
    given = set(re.findall(r'StopReason\(\s*"(\w+)"', text))
    given |= set(re.findall(r'Cause\.\w+: \(\s*"(\w+)"', text)) | {CANCELLED.code}
    given |= set(re.findall(r'^    "(\w+)": "', text, re.MULTILINE))
    given |= {BUDGET_EXCEEDED, PriceUnknownError([], "").code}
    asked = read(ROOT / "mynth_dagster" / "engine" / "plan.py")
    given |= set(re.findall(r'ConfirmationNeededError\(\s*"(\w+)"', asked))
    told = {code_in(code)[0] for code, *_ in rows(read(OPERATIONS), "code")}
    assert told == given


@pytest.mark.parametrize("title", ["The scenario", "Quirks"])
def test_simulator_page_has_each_setting(title: str):
    """Each field of the scenario, and each quirk."""
    settings, header = {
        "The scenario": (Scenario, "field"),
        "Quirks": (Quirks, "quirk"),
    }[title]
    told = [code_in(name)[0] for name, *_ in rows(section(SIMULATOR, title), header)]
    assert told == [setting.name for setting in fields(settings)]


def test_simulator_page_tells_the_quirks_of_each_revision():
    """The readings told are those that the revisions have; one may be as in the revision before."""
    filled = [Quirks().filled(revision) for revision in LIMITS_BY_REVISION]
    header = next(line for line in read(SIMULATOR).splitlines() if line.startswith("| quirk |"))
    assert code_in(header) == list(LIMITS_BY_REVISION)
    for name, *told, _ in rows(section(SIMULATOR, "Quirks"), "quirk"):
        quirk = code_in(name)[0]
        for place, quirks in enumerate(filled):
            if told[place] == "same":
                told[place] = told[place - 1]
            assert told[place].strip("`") == _in_words(getattr(quirks, quirk)), quirk


def _in_words(value: object) -> str:
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def test_simulator_page_tells_the_revision_of_a_scenario():
    """The one that is spoken unless told otherwise."""
    told = {code_in(name)[0]: cell for name, cell, _ in rows(read(SIMULATOR), "field")}
    assert told["revision"] == f'`"{Scenario().revision}"`'
    assert all(f"`{revision}`" in read(SIMULATOR) for revision in LIMITS_BY_REVISION)


@pytest.mark.parametrize(
    ("title", "kinds"),
    [("Tasks that fail", FailureKind), ("Faults on the wire", FaultKind)],
)
def test_simulator_page_has_each_kind_of_rule(title: str, kinds: object):
    """Each kind of failure and of fault."""
    told = {code_in(kind)[0] for kind, *_ in rows(section(SIMULATOR, title), "`kind`")}
    assert told == set(kinds.__args__)  # type: ignore[attr-defined]


def test_simulator_page_tells_which_faults_carry_a_request_out():
    """What the page says of each fault is what the rule does."""
    for kind, carried, _ in rows(section(SIMULATOR, "Faults on the wire"), "`kind`"):
        name = code_in(kind)[0]
        with_task = FaultRule(kind=name, with_task=True).carries_out
        without = FaultRule(kind=name).carries_out
        expected = "if `with_task`" if with_task != without else "yes" if without else "no"
        assert carried == expected, name


def test_simulator_page_names_each_field_of_a_rule():
    """Each field of rules, keys and durations is at least named."""
    named = set(code_in(read(SIMULATOR))) | set(re.findall(r"\b\w+\b", read(SIMULATOR)))
    for settings in (
        *(FailureRule, FaultRule, ApiKey, Distribution),
        *(DeliveryRules, Destination, Endpoint),
    ):
        assert {setting.name for setting in fields(settings)} <= named


def test_simulator_page_has_playable_examples():
    """The scenario in JSON is one, and the example in Python runs."""
    (scenario,) = blocks(SIMULATOR, "json")
    assert Scenario.from_dict(json.loads(scenario)).seed == 7
    (example,) = blocks(SIMULATOR, "python")
    exec(example, {"print": lambda _: None})


def test_wire_page_tells_the_limits_of_each_revision():
    """Lengths and counts are those of `limits`."""
    told = {name: cells for name, *cells in rows(read(WIRE), "about")}
    for place, limits in enumerate(reversed(LIMITS_BY_REVISION.values())):
        assert str(limits.prompt_max_chars) in told["prompt length"][place]
        assert f"{limits.count_min} to {limits.count_max}" in told["images per request"][place]
        quality = "none" if limits.quality_min is None else f"{limits.quality_min} to 100"
        assert quality in told["output quality"][place]
        assert limits.upload_files_max == 10
    assert "uploaded first, ten in a request" in read(WIRE)


def test_reference_is_written_from_the_code():
    """`make reference` would change nothing."""
    assert read(reference.PAGE) == reference.render()


def test_reference_says_something_of_every_field():
    """No field, argument, job or check is without a word."""
    for line in read(reference.PAGE).splitlines():
        cells = line.strip("|").split("|")
        assert not line.startswith("| `") or all(cell.strip() for cell in cells), line


def _is_given_fields(name: str) -> bool:
    """Whether users call it with something; errors are raised, and `MynthAssets` made, for them."""
    value = getattr(mynth_dagster, name)
    if isinstance(value, type) and issubclass(value, BaseException | list):
        return False
    return bool(inspect.signature(value).parameters)


@pytest.mark.parametrize("name", [*filter(_is_given_fields, mynth_dagster.__all__)])
def test_reference_has_each_public_name_with_its_fields(name: str):
    """A heading of its own, and under it a row for each field that may be given."""
    value = getattr(mynth_dagster, name)
    given = getattr(value, "model_fields", None) or inspect.signature(value).parameters
    text = section(reference.PAGE, f"`{name}`")
    told = rows(text, "field" if hasattr(value, "model_fields") else "argument")
    assert [code_in(field)[0] for field, *_ in told] == list(given)


def test_reference_has_each_job_and_check_that_a_batch_can_have():
    """With everything switched on that adds one."""
    request = ImageRequest(rating=True, follow_ups=[FollowUp(table="ratings")])
    limits = Checks(budget_usd_per_window=Decimal(25))
    batch = build_image_batch(
        "shots",
        prompts="prompts.parquet",
        request=request,
        delivery=Delivery(files=Files()),
        checks=limits,
    )
    mynth = MynthResource(api_key="mak_unused", root="data")
    defs = dg.Definitions.merge(batch, dg.Definitions(resources={"mynth": mynth}))
    told = {code_in(job)[0] for job, _ in rows(section(reference.PAGE, "Jobs"), "job")}
    jobs = {job.name.replace("shots", "<batch>") for job in defs.jobs or ()}
    assert told == jobs
    checks = {key.name for key in defs.resolve_asset_graph().asset_check_keys}
    told = {code_in(check)[0] for check, *_ in rows(section(reference.PAGE, "Checks"), "check")}
    assert told == checks


def test_reference_names_the_steps_whose_launchpad_asks():
    """The submission and each follow-up; all of them pay."""
    text = section(reference.PAGE, "Launchpad")
    steps = ("submit", *(kind.table for kind in FollowUpKind))
    assert all(f"`<batch>__{step}`" in text for step in steps)


def test_tables_page_has_each_code_of_a_download():
    """Each reason that the code gives for an image without a file."""
    names = ("client/download.py", "engine/download.py")
    sources = [ROOT / "mynth_dagster" / name for name in names]
    sources += [*(ROOT / "mynth_dagster" / "tables").glob("*.py")]
    text = "".join(map(read, sources))
    given = set(re.findall(r'DownloadError\(\s*"(\w+)"', text))
    told = rows(section(TABLES, "When a file could not be kept"), "code")
    assert {code for cell, _ in told for code in code_in(cell)} == given


@pytest.mark.parametrize("table", SCHEMAS)
def test_columns_mean_the_same_on_the_page_and_in_the_ui(table: str):
    """The words of the tables page are those that Dagster shows beside a column."""
    told = {
        code_in(column)[0]: re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", meaning)
        for column, _, meaning in rows(section(TABLES, f"`{table}`"), "column")
    }
    assert told == {name: meaning for name, _, meaning in COLUMNS[table]}
