"""The scheduler: jobs that repeat, declared in one table, enqueued at the right time, once each."""

from jiffy.scheduler.command import run_scheduler
from jiffy.scheduler.entry import cron, every

__all__ = ["cron", "every", "run_scheduler"]
