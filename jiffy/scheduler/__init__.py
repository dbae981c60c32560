"""The scheduler: jobs that repeat, declared in one table, enqueued at the right time, once each."""

from jiffy.scheduler.entry import at, cron, every
from jiffy.scheduler.simulation import simulate

__all__ = ["at", "cron", "every", "simulate"]
