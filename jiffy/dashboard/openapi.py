"""A function becomes an operation of the API: a route, its checks, its part of the document.

Types of request and answer come from the signature, the summary from the docstring's first line.
"""

import inspect
import json
import re
from collections.abc import Callable
from functools import partial, wraps
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar, get_type_hints

import msgspec
from flask import Blueprint, Response, abort, g, request
from werkzeug.exceptions import NotFound

import jiffy
from jiffy import json_types
from jiffy.dashboard import auth, schemas
from jiffy.producer import options

View = TypeVar("View", bound=Callable[..., Any])

blueprint = Blueprint("api", __name__, url_prefix="/api")

PROBLEMS = {
    400: "The body is not JSON, or neither an object nor a list of objects.",
    401: "No token, or an unknown one.",
    403: "The token may only read, or the API is closed.",
    404: "There is no such job or entry (any more).",
    405: "The path has other methods: Allow lists them.",
    409: "The job's state does not allow it, or its id is taken.",
    413: "The body is over 1 MB, or a job's arguments are over JOB_MAX_BYTES.",
    415: "The body is not declared as JSON in UTF-8.",
    422: "A value is invalid: `detail` says what it must be.",
    429: "Six slow requests with API_READ_TOKEN are in progress: try again after Retry-After.",
    503: "Redis does not answer, or is full: try again after Retry-After; without it, jobs may "
    "have been enqueued: `detail` says which, and how to go on.",
}


class _Operation(NamedTuple):
    method: str
    path: str
    view: Callable[..., Any]
    status: int
    problems: tuple[int, ...]
    more: dict[str, Any]


operations: list[_Operation] = []
_STRING = {"type": "string"}
_PARTS = {"name": {"type": "string", "pattern": "^[A-Za-z0-9_.-]+$", "maxLength": 200}}
_TOKENS = {"token": "API_TOKEN: everything.", "readToken": "API_READ_TOKEN: GET only."}
_JOB_ID = {"job_id": "$response.body#/id"}


def operation(
    method: str, path: str, *problems: int, status: int = 200, **more: Any
) -> Callable[[View], View]:
    """Make a function an operation; `more` is added to its part of the document.

    Its parameter `body`, if it has one, is the request's JSON as a struct; of any other type, as
    it was sent.
    """

    def register(view: View) -> View:
        kind = get_type_hints(view).get("body")

        @wraps(view)
        def respond(**arguments: Any) -> Response:
            if kind is not None:
                arguments["body"] = _body(kind)
            answer = view(**arguments)
            text = json.dumps(answer, default=_builtins)
            response = Response(f"{text}\n", status, mimetype="application/json")
            if isinstance(answer, schemas.Enqueued):
                response.location = answer.status_url
            return response

        blueprint.add_url_rule(path, view_func=respond, methods=[method])
        operations.append(_Operation(method, f"/api{path}", view, status, problems, more))
        return view

    return register


@blueprint.before_app_request
def _name_operations() -> None:
    """Say what there is, where the API has no such path."""
    if auth.is_api() and isinstance(request.routing_exception, NotFound):
        paths = ", ".join(f"{one.method} {one.path}" for one in operations)
        abort(404, f"The API has no {request.path}. It has {paths}.")


# Given `str` for the mask of secrets, a kind of string that msgspec does not know.
_builtins = partial(msgspec.to_builtins, enc_hook=str)


def _body(kind: Any) -> Any:
    raw = request.get_data()
    if len(raw) >= (request.max_content_length or len(raw) + 1):  # Flask cuts what has no length
        abort(413)
    is_struct = isinstance(kind, type)
    g.body = {}  # where `problems` looks for what is invalid
    if is_struct and not raw:
        return json_types.convert(g.body, kind)
    if not request.is_json:
        abort(415, "Send JSON, with the header 'Content-Type: application/json'.")
    charset = request.mimetype_params.get("charset", "utf-8")
    if charset.lower().replace("-", "") != "utf8":
        abort(415, f"Send UTF-8, not {charset}: it is the only encoding of JSON.")
    try:
        g.body = json_types.read(raw)
    except ValueError as error:
        abort(400, f"The body is not JSON: {error}.")
    if is_struct and not isinstance(g.body, dict):
        abort(400, "The body must be an object, or empty.")
    return json_types.convert(g.body, kind) if is_struct else g.body


def document(server: str) -> dict[str, Any]:
    """The API at `server` as an OpenAPI 3.1 document."""
    components: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for one in operations:
        path = one.path.replace("<", "{").replace(">", "}")
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": _PARTS.get(name, _STRING)}
            for name in re.findall("<(.*?)>", one.path)
        ]
        parts = paths.setdefault(path, {"parameters": parameters} if parameters else {})
        parts[one.method.lower()] = _described(one, components)
    problem = _schema(schemas.Problem, components)
    components["Call"]["properties"] |= options.schema()
    for kind, example in schemas.EXAMPLES.items():
        components[kind.__name__]["example"] = json.loads(example)
    for schema in components.values():
        # A docstring's lines `name: …` describe the fields of these names.
        head, *fields = re.split(r"\n(\w+): ", inspect.cleandoc(schema.get("description", "")))
        schema["description"] = head.strip()
        for name, text in zip(fields[::2], fields[1::2], strict=True):
            schema["properties"][name]["description"] = " ".join(text.split())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Jiffy",
            "version": jiffy.__version__,
            "description": "Enqueue jobs, get their state and result, and operate the schedule.",
        },
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                str(status): _json(text, problem, "application/problem+json")
                for status, text in PROBLEMS.items()
            },
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": text}
                for name, text in _TOKENS.items()
            },
        },
    }


def _schema(kind: Any, components: dict[str, Any]) -> Any:
    template = "#/components/schemas/{name}"
    [schema], named = msgspec.json.schema_components([kind], ref_template=template)
    components.update(named)
    return schema


def _described(one: _Operation, components: dict[str, Any]) -> dict[str, Any]:
    kinds = get_type_hints(one.view, include_extras=True)
    answer = _json(HTTPStatus(one.status).phrase, _schema(kinds["return"], components))
    if "Enqueued" in str(answer):
        location = {"description": "Of one job: its status_url.", "schema": _STRING}
        answer["headers"] = {"Location": location}
        answer["links"] = {
            _name(other): {"operationId": _name(other), "parameters": _JOB_ID}
            for other in operations
            if "<job_id>" in other.path
        }
    problems = {401, 403, 503, *one.problems} | ({404} if "<" in one.path else set())
    if one.method == "GET":
        problems.add(429)
    summary, _, details = (inspect.getdoc(one.view) or "").partition("\n\n")
    described: dict[str, Any] = {
        "operationId": _name(one),
        "summary": summary.strip("."),
        "security": [{"token": []}, {"readToken": []}] if one.method == "GET" else [{"token": []}],
    }
    if details:
        described["description"] = " ".join(details.split())
    if kind := kinds.get("body"):
        problems |= {400, 413, 415, 422}
        is_struct = isinstance(kind, type)
        required = not is_struct or any(one.required for one in msgspec.structs.fields(kind))
        body = _json("", _schema(kind, components))
        described["requestBody"] = {"required": required, "content": body["content"]}
    refused = {
        str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(problems)
    }
    return described | {"responses": {str(one.status): answer} | refused} | one.more


def _name(one: _Operation) -> str:
    return re.sub("_(.)", lambda letter: letter[1].upper(), one.view.__name__)


def _json(text: str, schema: Any, mimetype: str = "application/json") -> dict[str, Any]:
    return {"description": text, "content": {mimetype: {"schema": schema}}}
