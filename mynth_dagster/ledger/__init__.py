"""The durable memory between the tables and the API, on SQLite or Postgres."""

from mynth_dagster.ledger.ledger import Ledger as Ledger
from mynth_dagster.ledger.partitions import Stopped as Stopped
from mynth_dagster.ledger.queries import Queries as Queries
