"""What must hold of every Lua script, whatever it does."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "jiffy/scripts"
TEXTS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.lua"))}
INCLUDED = {name for name in TEXTS if any(f"--include {name}\n" in text for text in TEXTS.values())}


@pytest.mark.parametrize("name", TEXTS)
def test_a_script_opens_with_its_purpose_keys_arguments_and_answer(name):
    opening = re.match(r"(--.*\n)+", TEXTS[name])[0]

    for part in ["KEYS"] if name in INCLUDED else ["KEYS: ", "ARGV: ", "Returns"]:
        assert part in opening, part


@pytest.mark.parametrize("name", TEXTS)
def test_no_pattern_is_tried_anew_from_each_character(name):
    """Lua would: with the square of a text's length, while Redis does nothing else."""
    patterns = re.findall(r"string\.(?:match|find)\([^']*'([^']*)'\)", TEXTS[name])

    assert not [one for one in patterns if re.search(r"[*+-]", one) and not one.startswith("^")]
