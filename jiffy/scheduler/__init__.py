"""The scheduler: jobs that repeat, declared in one table, enqueued at the right time, once each."""

from jiffy.scheduler.command import companion, run_scheduler
from jiffy.scheduler.entry import at, cron, every
from jiffy.scheduler.simulation import simulate

__all__ = ["at", "companion", "cron", "every", "run_scheduler", "simulate"]
