"""A job that takes its time: something to watch."""

import time

from jiffy import progress


def spell(text: str, pause_s: float = 0.5) -> str:
    """Return `text` letter by letter, "a-b-c", with a pause after each."""
    spelled = []
    for letter in progress(text, note="spelling"):
        spelled.append(letter)
        time.sleep(pause_s)
    return "-".join(spelled)
