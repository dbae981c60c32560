"""What the API tells of jobs, queues and the schedule."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from flask import Response

from jiffy import entries
from jiffy.read import JobView, Overview
from jiffy.ticks import Tick

_TIMES = ("created", "enqueued", "due", "started", "ended")


def job(view: JobView) -> dict[str, Any]:
    """A job, as `schemas.JOB` describes it."""
    progress = view.progress and {"fraction": view.progress.fraction, "note": view.progress.note}
    problems = [*view.problems]
    return {
        "id": view.id,
        "state": view.state,
        "function": view.function or None,
        "description": view.description,
        "queue": view.queue,
        "worker": view.worker or None,
        "result": _carried("result", view.result, None, problems),
        "error": view.error or None,
        "waits_for": view.waits_for or None,
        "retries_left": view.retries_left,
        "depends_on": list(view.depends_on),
        "progress": progress,
        "meta": _carried("meta", view.meta, {}, problems),
        "times": {name: _iso(getattr(view, name)) for name in _TIMES},
        "problems": problems,
    }


def _carried(name: str, value: Any, otherwise: Any, problems: list[str]) -> Any:
    """The value; where JSON cannot carry it, `otherwise`, and one more of the problems."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        problems.append(f"{name} is a value that JSON has no word for")
        return otherwise
    return value


def queues(seen: Overview) -> dict[str, Any]:
    """All queues, as `schemas.QUEUES` describes them."""
    return {
        "queues": [
            {
                "name": queue.name,
                "counts": dict(queue.counts),
                "workers": sum(queue.name in worker.queues for worker in seen.workers),
            }
            for queue in seen.queues
        ],
        "suspended": seen.is_suspended,
        "left_out": list(seen.left_out),
    }


def schedule(seen: entries.Glance, states: Sequence[entries.State]) -> dict[str, Any]:
    """The whole schedule, as `schemas.SCHEDULE` describes it."""
    more = seen.entries - len(states)
    return {
        "scheduler": seen.scheduler,
        "entries": [entry(state) for state in states],
        "left_out": [f"{more} more entries"] if more > 0 else [],
    }


def entry(state: entries.State) -> dict[str, Any]:
    """An entry, as `schemas.ENTRY` describes it."""
    pause = state.paused
    return {
        "name": state.name,
        "of_table": state.is_of_table,
        "call": state.call,
        "times": state.words,
        "queue": state.queue,
        "next": _iso(state.next_at),
        "paused": pause
        and {
            "who": pause.who,
            "why": pause.why,
            "since": _iso(pause.since),
            "until": _iso(pause.until),
        },
        "skip": state.skip,
        "last": state.last and _tick(state.last),
    }


def history(ticks: Sequence[Tick]) -> dict[str, Any]:
    """What is told of one entry alone: its last ticks, newest first."""
    return {"history": [_tick(tick) for tick in ticks]}


def _tick(tick: Tick) -> dict[str, Any]:
    return {
        "slot": _iso(tick.slot),
        "outcome": tick.outcome,
        "job": tick.job_id,
        "late_ms": tick.late_ms,
        "duration_s": tick.duration_s,
        "reason": tick.reason or None,
    }


def answer(told: Any, status: int = 200, **headers: str) -> Response:
    """The answer that tells it."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(f"{json.dumps(told)}\n", status, names, mimetype="application/json")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
