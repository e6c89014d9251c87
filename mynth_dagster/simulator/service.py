"""Everything a request can reach: the world, its files and webhooks, and the revision spoken."""

from __future__ import annotations

from urllib.parse import urlsplit

from mynth_dagster.clock import Clock
from mynth_dagster.simulator import invented
from mynth_dagster.simulator.archive import Archive
from mynth_dagster.simulator.destinations import DestinationStore
from mynth_dagster.simulator.faults import FaultPicker
from mynth_dagster.simulator.outbox import Outbox
from mynth_dagster.simulator.pictures import pixels_of
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
        self.destinations = DestinationStore(scenario, clock.now_us())
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
        self.destinations.adopt(scenario, self.scenario, self.clock.now_us())
        self.faults = self.faults.change(scenario)
        self._adopt(scenario)

    def pixels_of(self, url: str) -> str:
        """Width and height of an image by its URL; those of foreign ones are invented."""
        name = urlsplit(url).path.rpartition("/cdn/")[2]
        upload = self.uploads.find(name)
        if upload is not None:
            return pixels_of(upload.content) or invented.SOURCE_PIXELS
        found = self.world.find_image(name.rpartition(".")[0])
        return invented.SOURCE_PIXELS if found is None else found[0].outcome.pixels

    def _adopt(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.choices = scenario.choices
        self.revision = REVISIONS[scenario.revision]
        self.delays = not scenario.response_delay_s.is_nothing
