"""Routes about users' own storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.calls import Answer, answer_json
from mynth_dagster.simulator.destinations import read_destination, read_test
from mynth_dagster.simulator.endpoints.account import require_manager
from mynth_dagster.simulator.validation import DESTINATION_TEST, NOT_FOUND, Refusal, invalid

if TYPE_CHECKING:
    from mynth_dagster.simulator.accounts import Key
    from mynth_dagster.simulator.calls import Call
    from mynth_dagster.simulator.destinations import OwnStorage


def create(call: Call) -> Answer:
    """``POST /destinations``."""
    key = require_manager(call)
    service = call.service
    wish = read_destination(call.json_object(), is_new=True)
    if service.destinations.owns(key.user_id, wish.name):
        raise invalid("name", "is taken")
    return _show(call, service.destinations.add(wish, key.user_id, service.clock.now_us()), 201)


def show_all(call: Call) -> Answer:
    """``GET /destinations``: all of the account, oldest first."""
    key = require_manager(call)
    revision = call.service.revision
    entries = call.service.destinations.of(key.user_id)
    listed = [revision.account.destination(entry) for entry in entries]
    return answer_json(revision.answers.wrapped(listed))


def show(call: Call) -> Answer:
    """``GET /destinations/:id``."""
    return _show(call, _find(call, require_manager(call)))


def replace(call: Call) -> Answer:
    """``PUT /destinations/:id``: a full replacement; the name stays."""
    entry = _find(call, require_manager(call))
    wish = read_destination(call.json_object(), is_new=False)
    service = call.service
    return _show(call, service.destinations.replace(entry, wish, service.clock.now_us()))


def delete(call: Call) -> Answer:
    """``DELETE /destinations/:id``."""
    call.service.destinations.remove(_find(call, require_manager(call)))
    return Answer(204)


def test(call: Call) -> Answer:
    """``POST /destinations/:id/test``: whether it takes a file."""
    entry = _find(call, require_manager(call))
    read_test(call.json_object())
    if entry.wish.name in call.service.scenario.failing_destinations:
        raise Refusal(DESTINATION_TEST, defaults.DESTINATION_TEXT)
    return Answer(204)


def _find(call: Call, key: Key) -> OwnStorage:
    entry = call.service.destinations.find(call.route.param, key.user_id)
    if entry is None:
        raise Refusal(NOT_FOUND, defaults.NOT_FOUND_TEXT)
    return entry


def _show(call: Call, entry: OwnStorage, status: int = 200) -> Answer:
    revision = call.service.revision
    spelled = revision.account.destination(entry)
    return answer_json(revision.answers.wrapped(spelled), status)
