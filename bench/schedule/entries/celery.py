"""Celery beat: `beat_schedule`, as its guide to periodic tasks writes it; the broker is Redis."""

from celery import Celery
from celery.schedules import crontab

from bench.jobs import noop as job
from bench.schedule.entries import NUMBERS, REDIS_URL, UNIT

WHEN = {"second": 1.0, "minute": crontab(), "day": crontab(minute=0, hour=0)}

app = Celery("bench", broker=REDIS_URL)
noop = app.task(job)
app.conf.beat_schedule = {
    f"noop-{number}": {"task": noop.name, "schedule": WHEN[UNIT]} for number in NUMBERS
}
