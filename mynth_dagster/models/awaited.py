"""Tasks that are waited for, held by the ten thousand: no more of an intent than waiting needs."""

from __future__ import annotations

from dataclasses import dataclass

from mynth_dagster.models.task import TaskStatus


@dataclass(frozen=True, slots=True)
class Awaited:
    """
    An accepted intent and its task; times are UTC microseconds.

    Args:
        n_asked: Images asked for.
        since_us: When it was submitted.
        deadline_at_us: After this the task is called stalled.
        remote_status: What Mynth last said of it; final: finished, and not read yet.
        missed: How often in a row Mynth said that it does not know the task.
        request_hash: What was asked, as in the tag that the task carries.
        model: The model, or the type of a task that looks at an image.
        account: The ledger's number of the account and key that sent it.
    """

    intent_id: str
    task_id: str
    n_asked: int
    since_us: int
    deadline_at_us: int | None = None
    remote_status: TaskStatus | None = None
    missed: int = 0
    request_hash: str = ""
    model: str = ""
    account: int | None = None

    @property
    def is_finished_remotely(self) -> bool:
        """Mynth says the task is over."""
        return self.remote_status is not None and self.remote_status.is_final

    def is_stalled(self, now_us: int) -> bool:
        """It is pending past its deadline."""
        is_late = self.deadline_at_us is not None and now_us > self.deadline_at_us
        return is_late and not self.is_finished_remotely
