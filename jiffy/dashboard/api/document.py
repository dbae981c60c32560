"""The API told to programs, as OpenAPI 3.1: made of the tables that check its requests."""

from typing import Any

import jiffy
from jiffy.dashboard.api import calls, orders, schemas

WAITS_S, MOST_WAIT_S = 20, 60
WAIT = r"^([0-5]?[0-9](\.[0-9]+)?|60)s?$"

_ALWAYS = ("401", "403", "503")


def whole(server: str) -> dict[str, Any]:
    """The document, for the API at `server`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Jiffy",
            "version": jiffy.__version__,
            "description": "Enqueue jobs, ask what became of them, and see to the schedule.",
        },
        "servers": [{"url": server.rstrip("/")}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "responses": {code: _problem(text) for code, text in schemas.PROBLEMS.items()},
            "parameters": {"JobId": _JOB_ID, "EntryName": _ENTRY_NAME, "Timeout": _TIMEOUT},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "API_TOKEN: all."},
                "readToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "API_READ_TOKEN: GET alone.",
                },
            },
        },
    }


_JOB_ID = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}}
_ENTRY_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.-]+$", "maxLength": 200},
}
_TIMEOUT = {
    "name": "timeout",
    "in": "query",
    "description": f"Seconds, such as 30 or 30s; {MOST_WAIT_S} at most.",
    "schema": {"type": "string", "default": str(WAITS_S), "pattern": WAIT},
}


def _paths() -> dict[str, Any]:
    one = {"parameters": [_ref("parameters", "JobId")]}
    return {
        "/api/jobs": {"post": _create()},
        "/api/jobs/{job_id}": {
            **one,
            "get": _reads("showJob", "What became of a job", "404"),
            "delete": _changes("cancelJob", "Cancel a job that has not begun", "200"),
        },
        "/api/jobs/{job_id}/wait": {**one, "get": _wait()},
        "/api/jobs/{job_id}/retry": {
            **one,
            "post": _changes("retryJob", "Try a failed, stopped or canceled job again", "202"),
        },
        "/api/jobs/{job_id}/stop": {
            **one,
            "post": _changes("stopJob", "Tell the worker that runs a job to stop it", "202"),
        },
        "/api/queues": {
            "get": _reads("listQueues", "All queues, and who works on them", of="Queues")
        },
        **_schedule_paths(),
        "/api/openapi.json": {"get": _reads("describe", "This document", of="Document")},
    }


def _schedule_paths() -> dict[str, Any]:
    one = {"parameters": [_ref("parameters", "EntryName")]}
    whole = _reads("showSchedule", "What runs when, and what became of it", of="Schedule")
    entry = _reads("showEntry", "An entry and its last ticks", "404", "422", of="Entry")
    run = _does("runEntry", "Enqueue a job of an entry now", orders.RUN, "202", "Enqueued")
    location = {"description": "Its status_url.", "schema": {"type": "string"}}
    run["responses"]["202"]["headers"] = {"Location": location}
    does = {
        "pause": _does("pauseEntry", "Skip an entry's ticks until it is resumed", orders.PAUSE),
        "resume": _does("resumeEntry", "End a pause", orders.NOTHING),
        "skip": _does("skipEntry", "Skip the next ticks of an entry", orders.SKIP),
        "run": run,
    }
    return {
        "/api/schedule": {"get": whole},
        "/api/schedule/{name}": {**one, "get": entry},
        **{f"/api/schedule/{{name}}/{what}": {**one, "post": how} for what, how in does.items()},
    }


def _does(
    name: str, summary: str, fields: orders.Fields, code: str = "200", of: str = "Entry"
) -> dict[str, Any]:
    """A change of an entry; its body may be left out where nothing must be in it."""
    answer = _json(summary, _ref("schemas", of))
    operation = _operation(name, summary, code, answer, ("400", "404", "413", "415", "422"))
    required = [field for field in fields if field == "why"]
    schema: dict[str, Any] = _object(fields) | ({"required": required} if required else {})
    body = {"required": bool(required), "content": {"application/json": {"schema": schema}}}
    return operation | {"requestBody": body, "security": [{"token": []}]}


def _object(fields: orders.Fields) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: kind.schema | {"description": meaning} for name, (meaning, kind) in fields.items()
        },
    }


def _create() -> dict[str, Any]:
    one, many = _ref("schemas", "Call"), {"type": "array", "items": _ref("schemas", "Call")}
    body = {
        "schema": {"anyOf": [one, many | {"maxItems": calls.MOST_JOBS}]},
        "examples": {
            "one": {"value": calls.EXAMPLE},
            "many": {"value": [calls.EXAMPLE, calls.EXAMPLE | {"queue": "low", "retry": 3}]},
        },
    }
    made = _ref("schemas", "Enqueued")
    schema = {"anyOf": [made, {"type": "array", "items": made}]}
    location = {
        "Location": {"description": "Of one: its status_url.", "schema": {"type": "string"}}
    }
    answer = _json("Enqueued: an answer for each, in order.", schema) | {
        "headers": location,
        "links": {name: _to(name) for name in _OF_ONE_JOB},
    }
    codes = ("400", "409", "413", "415", "422")
    return _operation(
        "enqueue", "Enqueue one job or many; all are checked first", "202", answer, codes
    ) | {
        "requestBody": {"required": True, "content": {"application/json": body}},
        "security": [{"token": []}],
    }


_OF_ONE_JOB = ("showJob", "waitForJob", "cancelJob", "retryJob", "stopJob")


def _to(name: str) -> dict[str, Any]:
    return {"operationId": name, "parameters": {"job_id": "$response.body#/id"}}


def _wait() -> dict[str, Any]:
    operation = _reads("waitForJob", "The job as soon as it is over", "404", "422")
    later = "Not waited for: too many do.  Come back in so many seconds."
    operation["responses"]["200"]["headers"] = {
        "Retry-After": {"description": later, "schema": {"type": "integer"}}
    }
    return operation | {
        "description": "At the end of `timeout` it answers with the state that the job has then.",
        "parameters": [_ref("parameters", "Timeout")],
    }


def _reads(name: str, summary: str, *codes: str, of: str = "Job") -> dict[str, Any]:
    answer = _json(summary, _ref("schemas", of))
    return _operation(name, summary, "200", answer, codes) | {
        "security": [{"token": []}, {"readToken": []}]
    }


def _changes(name: str, summary: str, code: str) -> dict[str, Any]:
    answer = _json("The job as it is now.", _ref("schemas", "Job"))
    return _operation(name, summary, code, answer, ("404", "409")) | {"security": [{"token": []}]}


def _operation(
    name: str, summary: str, code: str, answer: dict[str, Any], codes: tuple[str, ...]
) -> dict[str, Any]:
    refused = {code: _ref("responses", code) for code in sorted((*codes, *_ALWAYS))}
    return {"operationId": name, "summary": summary, "responses": {code: answer} | refused}


def _schemas() -> dict[str, Any]:
    return {
        "Call": {
            **_object(calls.CALL | calls.OPTIONS),
            "required": ["function"],
            "example": calls.EXAMPLE,
        },
        "Enqueued": schemas.ENQUEUED,
        "Job": schemas.JOB,
        "Queues": schemas.QUEUES,
        "Schedule": schemas.SCHEDULE,
        "Entry": schemas.ENTRY,
        "Tick": schemas.TICK,
        "Problem": schemas.PROBLEM,
        "Document": {"type": "object", "required": ["openapi", "paths"]},
    }


def _problem(text: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _ref("schemas", "Problem")}}
    return {"description": text, "content": content}


def _json(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _ref(kind: str, name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/{kind}/{name}"}
