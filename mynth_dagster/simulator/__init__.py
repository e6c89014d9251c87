"""
A faithful local stand-in for Mynth, for tests, demos and benchmarks.

It is an independent witness: it shares no payload code with the client that is tested on it.
"""

from __future__ import annotations

from mynth_dagster.extras import require_extra

require_extra("simulator", "the simulator")

from mynth_dagster.simulator.app import create_app  # noqa: E402
from mynth_dagster.simulator.defaults import Distribution  # noqa: E402
from mynth_dagster.simulator.scenario import (  # noqa: E402
    STANDARD_SECRET,
    ApiKey,
    DeliveryRules,
    Destination,
    Endpoint,
    FailureRule,
    FaultRule,
    Quirks,
    Scenario,
    ScenarioError,
)
from mynth_dagster.simulator.server import SimulatorServer, serve  # noqa: E402

__all__ = [
    "STANDARD_SECRET",
    "ApiKey",
    "DeliveryRules",
    "Destination",
    "Distribution",
    "Endpoint",
    "FailureRule",
    "FaultRule",
    "Quirks",
    "Scenario",
    "ScenarioError",
    "SimulatorServer",
    "create_app",
    "serve",
]
