"""
A faithful local stand-in for Mynth, for tests, demos and benchmarks.

It is an independent witness: it shares no payload code with the client that is tested on it.
"""

from __future__ import annotations

from mynth_dagster.simulator.app import create_app
from mynth_dagster.simulator.deliveries import STANDARD_SECRET, DeliveryRules, Endpoint
from mynth_dagster.simulator.destinations import Destination
from mynth_dagster.simulator.distribution import Distribution
from mynth_dagster.simulator.plain import ScenarioError
from mynth_dagster.simulator.rules import FailureRule, FaultRule
from mynth_dagster.simulator.scenario import ApiKey, Scenario
from mynth_dagster.simulator.server import SimulatorServer, serve
from mynth_dagster.simulator.switches import Switches

__all__ = [
    "STANDARD_SECRET",
    "ApiKey",
    "DeliveryRules",
    "Destination",
    "Distribution",
    "Endpoint",
    "FailureRule",
    "FaultRule",
    "Scenario",
    "ScenarioError",
    "SimulatorServer",
    "Switches",
    "create_app",
    "serve",
]
