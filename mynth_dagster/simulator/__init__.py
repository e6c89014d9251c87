"""
A faithful local stand-in for Mynth, for tests, demos and benchmarks.

It is an independent witness: it shares no payload code with the client that is tested on it.
"""

from __future__ import annotations

from mynth_dagster.simulator.app import create_app
from mynth_dagster.simulator.defaults import Distribution
from mynth_dagster.simulator.scenario import (
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
from mynth_dagster.simulator.server import SimulatorServer, serve

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
