"""What the API answers with, as JSON Schema, with an example of each."""

from typing import Any

from jiffy.read import STATES

_TEXT_OR_NULL = {"type": ["string", "null"]}
_MOMENT = {"type": ["string", "null"], "format": "date-time"}

JOB: dict[str, Any] = {
    "type": "object",
    "required": ["id", "state", "queue", "result", "error", "times"],
    "properties": {
        "id": {"type": "string"},
        "state": {
            "type": "string",
            "description": "RQ's word: queued, scheduled, deferred, ready_to_enqueue, "
            "rate_limited, started; when it is over finished, failed, stopped, canceled.",
        },
        "function": {**_TEXT_OR_NULL, "description": "Its path; null where it cannot be read."},
        "description": {"type": "string"},
        "queue": {"type": "string"},
        "worker": {**_TEXT_OR_NULL, "description": "The worker that took it last."},
        "result": {"description": "What it returned; null until then, and if it returned nothing."},
        "error": {
            **_TEXT_OR_NULL,
            "description": "The traceback; of a job that waits to be tried again, that of its last "
            "try; or why it was canceled.",
        },
        "waits_for": {
            "enum": ["retry", "time", "jobs", None],
            "description": "What it waits for. retry: it is scheduled to be tried again, at "
            "times.due, since its last try failed with `error`; time: it is scheduled; jobs: it is "
            "deferred until those of depends_on are over.",
        },
        "retries_left": {
            "type": ["integer", "null"],
            "description": "How many more tries there are after the one that comes, or runs; null "
            "when it is over, and where there are none.",
        },
        "depends_on": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The jobs that it depends on; of a part of a chain or group, those that "
            "it waits for now, 20 at most.",
        },
        "progress": {
            "type": ["object", "null"],
            "properties": {
                "fraction": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
                "note": {"type": "string"},
            },
        },
        "meta": {
            "type": "object",
            "description": "What is kept with it; values named like secrets are masked.",
        },
        "times": {
            "type": "object",
            "properties": dict.fromkeys(
                ("created", "enqueued", "due", "started", "ended"), _MOMENT
            ),
        },
        "problems": {
            "type": "array",
            "items": {"type": "string"},
            "description": "What of the job cannot be shown, and why.",
        },
    },
    "example": {
        "id": "0b7c3f1e-5a55-4b0e-9a36-0f4a1a2b3c4d",
        "state": "finished",
        "function": "jobs.numbers.add",
        "description": "jobs.numbers.add(5, 3)",
        "queue": "default",
        "worker": "web.1-1",
        "result": 8,
        "error": None,
        "waits_for": None,
        "retries_left": None,
        "depends_on": [],
        "progress": None,
        "meta": {"order": 7},
        "times": {
            "created": "2030-01-31T06:00:00Z",
            "enqueued": "2030-01-31T06:00:00Z",
            "due": None,
            "started": "2030-01-31T06:00:00.000300Z",
            "ended": "2030-01-31T06:00:00.000400Z",
        },
        "problems": [],
    },
}
ENQUEUED: dict[str, Any] = {
    "type": "object",
    "required": ["id", "queue", "status_url"],
    "properties": {
        "id": {"type": "string"},
        "queue": {"type": "string"},
        "status_url": {"type": "string", "description": "GET it to see what became of the job."},
        "taken": {
            "const": True,
            "description": "One of many: a job with this id was there already, and was left as it "
            "is.  So a POST of many whose jobs have ids may be repeated.",
        },
    },
    "example": {
        "id": "mine",
        "queue": "default",
        "status_url": "https://example.com/api/jobs/mine",
    },
}
QUEUES: dict[str, Any] = {
    "type": "object",
    "required": ["queues", "suspended", "left_out"],
    "properties": {
        "queues": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "counts", "workers"],
                "properties": {
                    "name": {"type": "string"},
                    "counts": {
                        "type": "object",
                        "description": "How many jobs are in each state; stopped ones count as "
                        "failed.",
                        "required": list(STATES),
                        "additionalProperties": {"type": "integer", "minimum": 0},
                    },
                    "workers": {"type": "integer", "description": "How many listen to it."},
                },
            },
        },
        "suspended": {
            "type": "boolean",
            "description": "Whether `rq suspend` keeps all workers from taking jobs.",
        },
        "left_out": {
            "type": "array",
            "items": {"type": "string"},
            "description": "What there was too much of: the first hundred of each are told.",
        },
    },
    "example": {
        "queues": [
            {
                "name": "default",
                "counts": dict.fromkeys(STATES, 0) | {"queued": 12},
                "workers": 4,
            }
        ],
        "suspended": False,
        "left_out": [],
    },
}
TICK: dict[str, Any] = {
    "type": "object",
    "required": ["slot", "outcome", "job", "late_ms", "duration_s", "reason"],
    "properties": {
        "slot": {**_MOMENT, "description": "When it was due."},
        "outcome": {
            "type": "string",
            "description": "open: its job waits or runs; then that job's state, or gone; or why "
            "there is none: skipped, missed.",
        },
        "job": {**_TEXT_OR_NULL, "description": "Its job's id."},
        "late_ms": {"type": ["integer", "null"], "description": "How late it was enqueued."},
        "duration_s": {"type": ["number", "null"], "description": "How long its job took."},
        "reason": {**_TEXT_OR_NULL, "description": "Why there is no job, or who asked for one."},
    },
    "example": {
        "slot": "2030-01-31T06:00:00Z",
        "outcome": "finished",
        "job": "nightly-20300131T060000Z",
        "late_ms": 2,
        "duration_s": 1.5,
        "reason": None,
    },
}
ENTRY: dict[str, Any] = {
    "type": "object",
    "required": ["name", "of_table", "call", "times", "queue", "next", "paused", "skip", "last"],
    "properties": {
        "name": {"type": "string"},
        "of_table": {
            "type": "boolean",
            "description": "false: made through rq-scheduler's API, so listed only: it has no "
            "history, and is not paused, skipped or run from here.",
        },
        "call": {"type": "string"},
        "times": {"type": "string", "description": "In words."},
        "queue": {"type": "string"},
        "next": {**_MOMENT, "description": "When it is due; null: never again."},
        "paused": {
            "type": ["object", "null"],
            "properties": {
                "who": {"type": "string"},
                "why": {"type": "string"},
                "since": _MOMENT,
                "until": _MOMENT,
            },
        },
        "skip": {"type": "integer", "description": "So many next ticks are skipped."},
        "last": {"anyOf": [{"$ref": "#/components/schemas/Tick"}, {"type": "null"}]},
        "history": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Tick"},
            "description": "Of an entry asked for by name: its last 100 ticks, newest first.",
        },
    },
    "example": {
        "name": "nightly",
        "of_table": True,
        "call": "jobs.reports.last_day('report.html')",
        "times": "cron '0 6 * * *' on the clock of Europe/Paris",
        "queue": "default",
        "next": "2030-02-01T06:00:00Z",
        "paused": None,
        "skip": 0,
        "last": TICK["example"],
    },
}
SCHEDULE: dict[str, Any] = {
    "type": "object",
    "required": ["scheduler", "entries", "left_out"],
    "properties": {
        "scheduler": {
            "enum": ["ok", "away", "none"],
            "description": "Whether a scheduler runs; none: there is nothing to do for one.",
        },
        "entries": {"type": "array", "items": {"$ref": "#/components/schemas/Entry"}},
        "left_out": {
            "type": "array",
            "items": {"type": "string"},
            "description": "What there was too much of: the first thousand are told.",
        },
    },
    "example": {"scheduler": "ok", "entries": [ENTRY["example"]], "left_out": []},
}
PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "pointer": {"type": "string", "description": "Where in the body: a JSON Pointer."},
    },
    "example": {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "job 3: timeout is 'soon'; it must be seconds, or a text such as '90s'.",
        "pointer": "#/2/timeout",
    },
}

PROBLEMS = {
    "400": "The body is not JSON, or neither an object nor a list of objects.",
    "401": "No token, or none that is known.",
    "403": "The token may only read, or the API is closed.",
    "404": "There is no such job or entry (any more).",
    "405": "This address knows other methods: they are in Allow.",
    "409": "The job's state does not allow it, or its id is taken.",
    "413": "The body is over 1 MB, or a job's arguments over JOB_MAX_BYTES.",
    "415": "The body is not declared as JSON in UTF-8.",
    "422": "It is understood but wrong: `detail` says what.",
    "503": "Redis does not answer, or is full: Retry-After says when to come back; without it, "
    "jobs may be there: `detail` says which, and how to go on.",
}
