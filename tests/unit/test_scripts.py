"""What must hold of every Lua script, whatever it does."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "jiffy/scripts"
TEXTS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.lua"))}
# The keys of an expression: RQ .. 'wip:' .. queue, or a variable that holds it.
STARTED = r"RQ \.\. 'wip:'"
REMOVES = r"'(?:ZREM\w*|ZPOP\w*|DEL|UNLINK|RENAME\w*|EXPIRE\w*|ZADD', [^)]*'XX', 'GT)'"


def removes_from_started(text):
    """The places where a script takes something out of the started registry."""
    names = re.findall(rf"(\w+) = {STARTED}", text)
    keys = "|".join([STARTED, *(rf"\b{name}\b" for name in names)])
    return re.findall(rf"{REMOVES}, (?:{keys}).*", text)


def test_one_function_removes_an_id_from_the_started_registry():
    places = {name: found for name, text in TEXTS.items() if (found := removes_from_started(text))}
    body = re.search(r"local function end_executions.*?\nend\n", TEXTS["lib"], re.DOTALL)[0]

    assert list(places) == ["lib"]
    assert [found in body for found in places["lib"]] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "call('ZREM', RQ .. 'wip:' .. queue, member)",
        "local registry = RQ .. 'wip:' .. queue\ncall('ZREM', registry, id)",
        "try('ZREMRANGEBYSCORE', RQ .. 'wip:' .. queue, '-inf', NOW)",
    ],
)
def test_a_removal_is_found(text):
    assert removes_from_started(text)


def test_only_claim_finish_and_recovery_end_executions():
    ends = re.compile(r"(end_executions|requeue)\(")

    assert [name for name, text in TEXTS.items() if ends.search(text) and name != "lib"] == [
        "claim",
        "finish",
        "recover",
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_a_script_opens_with_its_purpose_keys_arguments_and_answer(name):
    opening = re.match(r"(--.*\n)+", TEXTS[name])[0]

    is_shared = any(f"--include {name}\n" in text for text in TEXTS.values())
    for part in ["KEYS"] if is_shared else ["KEYS: ", "ARGV: ", "Returns"]:
        assert part in opening, part
