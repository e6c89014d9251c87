"""The simulator's own routes, under ``/_simulator/``: its log, its scenario, its clock."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from mynth_dagster.simulator import defaults
from mynth_dagster.simulator.calls import Answer, answer_json
from mynth_dagster.simulator.defaults import format_price
from mynth_dagster.simulator.scenario import ScenarioError

if TYPE_CHECKING:
    from mynth_dagster.simulator.app import Simulator
    from mynth_dagster.simulator.completion import PriceBook

PREFIX = "/_simulator"


def answer_control(
    simulator: Simulator, method: str, path: str, query: bytes, body: bytes
) -> Answer:
    """The answer of a control route; 400 and 404 in plain words."""
    try:
        payload = orjson.loads(body) if body else {}
        return _answer(simulator, f"{method} {path.removeprefix(PREFIX)}", query, payload)
    except (ScenarioError, orjson.JSONDecodeError) as exc:
        return answer_json({"error": str(exc)}, 400)
    except KeyError as exc:
        return answer_json({"error": f"there is no task {exc.args[0]}"}, 404)


def _answer(simulator: Simulator, route: str, query: bytes, payload: Any) -> Answer:
    if not isinstance(payload, dict):
        raise ScenarioError("the request body must be a JSON object")
    if route == "GET /log":
        lists = parse_qs(query.decode("latin-1")).get("view") != ["summary"]
        return answer_json(simulator.log(lists=lists))
    if route == "POST /complete":
        return answer_json({"completed": simulator.complete(payload.get("task_ids"))})
    if route in ("GET ", "GET /"):
        return answer_json(_describe(simulator))
    return _answer_scenario(simulator, route, payload)


def _answer_scenario(simulator: Simulator, route: str, payload: dict[str, Any]) -> Answer:
    if route == "POST /reset":
        simulator.reset(simulator.scenario.changed(payload))
    elif route == "POST /scenario":
        simulator.change(payload)
    elif route != "GET /scenario":
        return answer_json({"error": "the simulator has no such control route"}, 404)
    return answer_json(simulator.scenario.to_dict())


def _spell_prices(prices: PriceBook) -> dict[str, Any]:
    return {
        model_id: {
            word: None if units is None else format_price(units)
            for word, units in asdict(prices.of(model_id)).items()
        }
        for model_id in prices.models
    }


def _describe(simulator: Simulator) -> dict[str, Any]:
    return {
        "notice": defaults.NOTICE,
        "revision": simulator.scenario.revision,
        "routes": sorted(simulator.service.revision.ROUTES),
        "control": [
            f"GET {PREFIX}/log",
            f"GET {PREFIX}/log?view=summary",
            f"POST {PREFIX}/reset",
            f"GET {PREFIX}/scenario",
            f"POST {PREFIX}/scenario",
            f"POST {PREFIX}/complete",
        ],
        "invented": {
            "prices_usd": _spell_prices(simulator.service.world.prices),
            "pixels": {**defaults.PIXELS, **simulator.scenario.pixels},
            "auto_ceiling_usd": simulator.scenario.auto_ceiling_usd,
        },
        "scenario": simulator.scenario.to_dict(),
    }
