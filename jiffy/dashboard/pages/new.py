"""A new job: a form made from a function's types and docstring, empty or as a job was called."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, time
from typing import Any, NamedTuple

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from jiffy import json_types, redis_io
from jiffy.control import read, values
from jiffy.control.read import Call
from jiffy.dashboard import audit
from jiffy.dashboard.pages import jobs
from jiffy.dashboard.problems import STATUSES
from jiffy.errors import InvalidValue, JiffyError, ValidationError
from jiffy.producer import functions, options
from jiffy.producer.enqueue import enqueue
from jiffy.producer.functions import Parameter
from jiffy.producer.masking import MASK, Masked
from jiffy.settings import settings

page = Blueprint("new", __name__)

_MOST_LISTED = 200
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_EXAMPLES = {"integer": 1, "number": 1.5, "boolean": True, "null": None}
_UNREAD = object()  # an argument that is left out, or cannot be read
# What a browser's field of this kind can hold: it would show anything else as empty.
_HELD = {
    "number": re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII),
    "date": re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    "time": re.compile(r"\d\d:\d\d(:\d\d)?", re.ASCII),
    "datetime-local": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?", re.ASCII),
}


class Field(NamedTuple):
    name: str
    kind: str  # text, number, date, time, datetime-local, checkbox, select, json or any
    hint: str = ""
    choices: Sequence[tuple[str, str]] = ()  # what is sent, and what is shown
    example: str = ""
    is_needed: bool = False
    step: str = "any"
    parameter: Parameter = Parameter()


class _Form:
    """The fields of one function; `texts` is what stands in them, `errors` what is wrong there."""

    def __init__(self, path: str) -> None:
        self.function = functions.find(path, settings().jobs_modules)
        self.described, made = functions.described(path), functions.plan(self.function)
        self.parameters = made.shown.parameters
        known = {one.name: one for one in (*made.positional, *made.named.values())}
        self.texts, self.errors = dict[str, str](), dict[str, str]()
        self.defaults = dict[str, Any]()
        self.fields, schema = dict[str, Field](), self.described["parameters"]
        for name, given in self.parameters.items():
            others = {"type": "object", "additionalProperties": schema["additionalProperties"]}
            of_field = schema["properties"].get(name, others)
            field = _field(given, known.get(name, Parameter(name)), of_field, schema)
            self.fields[name] = field
            if given.default is not given.empty:
                self.texts[field.name] = _text(field, of_field.get("default"))
                self.defaults[name] = of_field.get("default", _UNREAD)

    @property
    def shape(self) -> str:
        """Its fields, and their kinds: a deploy may change them while a browser shows others."""
        return " ".join(f"{one.name}:{one.kind}" for one in self.fields.values())

    def receive(self, sent: Mapping[str, str]) -> None:
        """Let it show what was sent, and the defaults of fields that were not there."""
        were_there = sent.get("fields", self.shape)
        known = {one.partition(":")[0] for one in were_there.split()}
        new = {name: text for name, text in self.texts.items() if name not in known}
        # A browser ends lines by \r\n, whatever the call has.
        self.texts = new | {name: text.replace("\r\n", "\n") for name, text in sent.items()}
        if were_there != self.shape:
            self.errors[""] = "The function takes other arguments by now. Nothing was enqueued."

    def fill_in(self, call: Call) -> None:
        """Let the form show this call; a secret is left to be filled in."""
        positional = self.described["positional"]
        values: dict[str, Any] = dict(zip(positional, call.args, strict=False))
        rest, others = [*call.args[len(positional) :]], dict[str, Any]()
        for name, value in call.kwargs.items():
            (values if name in self.fields and name not in values else others)[name] = value
        for kind, more in zip(_REST, (rest, others), strict=True):
            names = [one.name for one in self.parameters.values() if one.kind is kind]
            if more and names:
                values[names[0]] = more
            elif more:
                self.errors[""] = f"The function has changed: it no longer takes {more}."
        for name, value in values.items():
            field = self.fields[name]
            self.texts[field.name] = text = _text(field, value)
            if MASK in text:
                self.errors[field.name] = f"Fill in what is masked ({MASK})."
            elif text and field.choices and text not in dict(field.choices):
                self.errors[field.name] = f"{text[:80]} is no choice any more."
            elif "\r" in text:
                self.errors[field.name] = "Your browser makes \\n of each \\r in it."
            elif not text.strip() and self._if_blank(name, text) != value:
                self.errors[field.name] = f"It was {json.dumps(value)}: a field cannot hold that."

    def _if_blank(self, name: str, text: str) -> Any:
        """What the function is called with where a field is left as blank as `text`."""
        with suppress(ValueError, ValidationError):  # it must be filled in
            value = _value(self.fields[name], text, self.parameters[name])
            return self.defaults.get(name) if value is _UNREAD else value
        return _UNREAD

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The call that the form makes; what cannot be read is in `errors`."""
        args, kwargs, has_gap = list[Any](), dict[str, Any](), False
        for name, given in self.parameters.items():
            field, value = self.fields[name], _UNREAD
            try:
                value = _value(field, self.texts.get(field.name, ""), given)
            except ValidationError as error:
                where = f"{error.where} is" if error.where else "It is"
                shown = values.clip(repr(error.value), 80)
                self.errors[field.name] = f"{where} {shown}; it must be {error.must}."
            except ValueError as error:
                self.errors[field.name] = str(error)
            if value is _UNREAD:
                has_gap = True
            elif given.kind is given.VAR_POSITIONAL and isinstance(value, list):
                args += value
            elif given.kind is given.VAR_KEYWORD and isinstance(value, dict):
                kwargs |= value
            elif has_gap or given.kind is given.KEYWORD_ONLY:
                kwargs[name] = value
            else:
                args.append(value)
        return args, kwargs

    def options(self) -> dict[str, Any]:
        """The options that the form gives; what cannot be read is in `errors`."""
        given: dict[str, Any] = {}
        for name, option in options.TABLE.items():
            text = self.texts.get(f"opt.{options.in_json(name)}", "").strip()
            if text and option.schema.get("type") == "boolean":
                given[name] = text == "true"
            elif text and name == "at":
                given[name] = f"{text}Z"
            elif text and name == "depends_on":
                given[name] = text.replace(",", " ").split()
            elif text:
                is_count = name == "retry" and re.fullmatch("[0-9]{1,9}", text)
                given[name] = int(text) if is_count else text
        try:
            return options.read(given, options.in_json)
        except InvalidValue as error:
            self.errors[f"opt.{error.name.partition('.')[0]}"] = str(error)
        except JiffyError as error:  # of a callback
            self.errors[""] = str(error)
        return {}

    def kind(self, field: Field) -> str:
        """How a field is shown: as text where its own kind could not hold what stands in it."""
        text, held = self.texts.get(field.name), _HELD.get(field.kind)
        return "text" if text and held and not held.fullmatch(text) else field.kind

    def shown(self, job_id: str = "") -> str:
        """The page; options are folded where none is given or wrong."""
        given = self.errors.keys() | {name for name, text in self.texts.items() if text}
        has_options = any(one.name in given for one in _OPTIONS.values())
        return render_template(
            "new.html", it=self, options=_OPTIONS, has_options=has_options, job_id=job_id
        )


def _field(
    given: inspect.Parameter, parameter: Parameter, schema: Any, whole: Mapping[str, Any]
) -> Field:
    """What kind of field a parameter has, by its JSON Schema; a part of the `whole` one."""
    python = json_types.members(parameter.converter.kind) if parameter.converter else []
    members = _members(schema, whole)
    parts = [one for one in members if one.get("type") != "null"]
    takes_none, types = len(parts) < len(members), {one.get("type") for one in parts}
    kind, choices = "any", list[Any]()
    if parts and all("enum" in one for one in parts):
        kind, choices = "select", [value for one in parts for value in one["enum"]]
    elif types == {"boolean"}:
        kind, choices = ("select", [True, False]) if takes_none else ("checkbox", [])
    elif types and types <= {"integer", "number"}:
        kind = "number"
    elif types == {"string"}:
        kind = "datetime-local" if datetime in python else "time" if time in python else "text"
        kind = "date" if parts[0].get("format") == "date" else kind
    elif types and types <= {"object", "array"}:
        kind = "json"
    hint = "" if given.annotation is given.empty else given.annotation
    return Field(
        f"arg.{given.name}", kind,
        hint if isinstance(hint, str) else inspect.formatannotation(hint),
        [(json.dumps(one, ensure_ascii=False), str(one)) for one in choices],
        json.dumps(_example(schema, whole), ensure_ascii=False) if kind == "json" else "",
        given.default is given.empty and not takes_none and given.kind not in _REST,
        "1" if kind == "datetime-local" or types == {"integer"} else "any", parameter,
    )  # fmt: skip


def _members(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The types of a union, each with what `$defs` has of it."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    return [part for one in schema.get("anyOf", ()) for part in _members(one, whole)] or [schema]


def _example(schema: Any, whole: Mapping[str, Any], depth: int = 4) -> Any:
    """A value as the schema has them, to show its shape."""
    one = _members(schema, whole)[0] if isinstance(schema, dict) and depth else {}
    more, parts = one.get("additionalProperties"), one.get("properties", {})
    if one.get("type") == "object":
        parts = {name: parts[name] for name in one.get("required", ()) if name in parts}
        parts = parts or ({"name": more} if more else {})
        return {name: _example(part, whole, depth - 1) for name, part in parts.items()}
    if one.get("type") == "array":
        items = one.get("prefixItems") or [one.get("items", {})]
        return [_example(item, whole, depth - 1) for item in items]
    return one["enum"][0] if "enum" in one else _EXAMPLES.get(one.get("type", ""), "…")


def _text(field: Field, value: Any) -> str:
    """A value as it stands in its field."""
    if value is None or (field.kind == "checkbox" and not value):
        return ""
    is_string = isinstance(value, str) and field.kind not in ("json", "select")
    if is_string and (
        field.kind != "any" or functions.read_string(value, field.parameter) == value
    ):
        return str(value)
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) < 70 else json.dumps(value, ensure_ascii=False, indent=2)


def _value(field: Field, text: str, given: inspect.Parameter) -> Any:
    """The argument that stands in a field.  Raises ValidationError, or ValueError with why not."""
    made: Any = field.parameter.converter
    value: Any = None
    has_string = isinstance(given.default, str) and type(given.default) is not Masked
    may_be_blank = field.kind == "text" and (text or has_string)
    if MASK in text:
        raise ValueError(f"Fill in what is masked ({MASK}).")
    if field.kind == "checkbox":
        value = bool(text)
    elif not text.strip() and not may_be_blank:
        if field.is_needed:
            raise ValueError("It must be filled in.")
        if given.default is not given.empty or given.kind in _REST:
            return _UNREAD
    elif field.kind == "json":
        try:
            value = json_types.read(text.encode("utf-8", "replace"))
        except ValueError as error:
            raise ValueError(f"It is not JSON: {error}. Such as: {field.example}") from None
    elif field.kind in ("text", "date", "time", "datetime-local"):
        is_short = field.kind == "datetime-local" and text.count(":") == 1
        value = f"{text}:00" if is_short else text
    else:
        value = functions.read_string(text, field.parameter)
    return made.pack(value) if made else value


def _option(name: str, option: options.Option) -> Field:
    choices = [*map(json.dumps, option.schema.get("enum", ()))]
    if option.schema.get("type") == "boolean":
        choices = ["true", "false"]
    kind = "select" if choices else "datetime-local" if name == "at" else "text"
    hint = option.meaning.replace("which must have a zone", "in UTC")
    hint += f" (otherwise: {option.otherwise})" if option.otherwise else ""
    shown = [(one.strip('"'), {"true": "yes", "false": "no"}.get(one, one.strip('"')))
             for one in choices]  # fmt: skip
    return Field(f"opt.{options.in_json(name)}", kind, hint, shown, option.example)


_OPTIONS = {options.in_json(name): _option(name, one) for name, one in options.TABLE.items()
            if one.flag}  # fmt: skip


@page.get("/new")
def form() -> str | tuple[str, int]:
    """Choose a function; or its form, which a `job` of the URL fills in, or else its `arg.NAME`."""
    path, job_id = request.args.get("function", "").strip(), request.args.get("job", "")
    found = read.known_job(redis_io.shared(), job_id) if job_id else None
    path = found.called if found else path
    try:
        made = _Form(path)
    except JiffyError as error:
        return _choose(path, str(error) if path or found else "")
    if found and found.call:
        made.fill_in(found.call)
        for name, one in {"queue": found.queue, **jobs.unusual_options(found)}.items():
            shown = one["max"] if isinstance(one, dict) else one
            made.texts[f"opt.{name}"] = (
                str(shown).lower() if one is True or one is False else f"{shown}"
            )
    if not found:  # else the page would call what someone wrote into a link that job's
        made.texts |= {name: text for name, text in request.args.items() if name[3:4] == "."}
    return made.shown(job_id)


@page.post("/new")
def make() -> Response | tuple[str, int]:
    """Enqueue the job; or show the form again, with what is wrong."""
    made = _Form(request.form.get("function", ""))
    made.receive(request.form)
    (args, kwargs), given, status = made.arguments(), made.options(), 422
    if not made.errors:
        try:
            job = enqueue.options(**given)(made.function, *args, **kwargs)
            audit.note(jobs=int(job.is_new), job=job.id)
            words = f"Enqueued {made.described['function']} on {job.origin}."
            repeated = "Nothing was enqueued: this is the job of the same call before."
            flash(words if job.is_new else repeated)
            return redirect(url_for("jobs.job", job_id=job.id), 303)
        except JiffyError as error:
            made.errors[""], status = str(error), STATUSES.get(type(error), 422)
    return made.shown(), status


def _choose(wanted: str, problem: str) -> str | tuple[str, int]:
    modules = settings().jobs_modules
    paths = sorted(functions.all_paths(modules))
    fitting = [path for path in paths if wanted.lower() in path.lower()] or paths
    about = dict.fromkeys(fitting[:_MOST_LISTED], "")
    for path in about:
        with suppress(JiffyError):
            about[path] = functions.doc(functions.find(path, modules)).partition("\n")[0]
    is_found = any(wanted.lower() in path.lower() for path in paths)
    text = render_template(
        "choose.html", wanted=wanted, about=about, paths=paths, total=len(fitting),
        problem="" if is_found and wanted else problem, modules=modules,
    )  # fmt: skip
    return (text, 404) if problem and not is_found else text
