"""The scheduler: jobs that repeat, declared in one table, enqueued at the right time, once each."""

from jiffy.scheduler.command import run_scheduler
from jiffy.scheduler.entry import at, cron, every

__all__ = ["at", "cron", "every", "run_scheduler"]
