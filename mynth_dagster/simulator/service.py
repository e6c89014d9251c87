"""Everything a request can reach: the world, its files and webhooks, and the revision spoken."""

from __future__ import annotations

from mynth_dagster.clock import Clock
from mynth_dagster.simulator.archive import Archive
from mynth_dagster.simulator.faults import FaultPicker
from mynth_dagster.simulator.outbox import Outbox
from mynth_dagster.simulator.revisions import REVISIONS
from mynth_dagster.simulator.scenario import Scenario
from mynth_dagster.simulator.uploads import UploadStore
from mynth_dagster.simulator.webhooks import WebhookStore
from mynth_dagster.simulator.world import World


class Service:
    """
    A simulated Mynth under one scenario; replaced whole by a reset.

    Raises:
        ScenarioError: The tasks in the archive were made under another scenario.
    """

    def __init__(self, scenario: Scenario, clock: Clock, archive: Archive | None = None) -> None:
        self.clock = clock
        self.world = World(scenario, clock)
        self.uploads = UploadStore(scenario.seed)
        self.webhooks = WebhookStore(scenario, clock.now_us())
        self.faults = FaultPicker(scenario)
        self._adopt(scenario)
        self.outbox = Outbox(self)
        if archive is not None:
            archive.restore(self.world, self.revision)
            self.world.on_created.append(archive.add)
        self.world.on_settled.append(self.outbox.announce)

    def change(self, scenario: Scenario) -> None:
        """Play on under a changed scenario."""
        self.world.change(scenario)
        self.webhooks.adopt(scenario, self.scenario, self.clock.now_us())
        self.faults = self.faults.change(scenario)
        self._adopt(scenario)

    def _adopt(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.choices = scenario.choices
        self.revision = REVISIONS[scenario.revision]
        self.delays = not scenario.response_delay_s.is_nothing
