"""Do what a page of the documentation says, line by line; stop where it is not so.

    python follow.py PAGE      in the folder of a project, with REDIS_URL set

`python`  is run, each block where the one before ended; behind `print(…)` stands what it prints.
`shell`   is run in a shell; the comments below a command are what it prints.
`py`      is others' code, and only shown.

In what is printed … stands for anything.  A block whose first line is `# jobs/name.py` is that
file, there before anything is run; with `# from jobs/name.py` it stands in that file word by word.
Workers run all the time; a honcho runs until the end.
"""

import ast
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.newcomer import wait_until

QUEUES = ("high", "default", "low", "long_tasks")
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"# (\S+\.py)\n")
_EXCERPT = re.compile(r"# from (\S+\.py)\n")
_PROMISED = re.compile(r"^ *print\(.*\)  # (.+)$")
_STEP = re.compile(r"^(?P<command>(?:(?!#).*\n)+)(?P<promised>(?:#.*\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A piece of code on a page."""

    language: str
    text: str
    line: int  # where it begins

    @property
    def file(self) -> str | None:
        """The file that it is, if it is one."""
        title = _TITLE.match(self.text)
        return title and title[1]


def blocks(page: str) -> list[Block]:
    """All of a page, in order."""
    return [
        Block(found[1], found[2], page.count("\n", 0, found.start(2)) + 1)
        for found in _FENCED.finditer(page)
    ]


def follow(path: Path) -> None:
    """Do it all.  Raises AssertionError where something else comes of it than the page says."""
    found = blocks(path.read_text())
    for block in found:
        if block.file:
            Path(block.file).parent.mkdir(exist_ok=True)
            Path(block.file).write_text(block.text)
    session: dict[str, Any] = {"__name__": "__main__"}
    with ExitStack() as running:
        workers = [sys.executable, "worker.py", "-n", "2", *QUEUES]
        running.enter_context(_program(workers, "worker.started"))
        for block in found:
            if block.text.startswith("honcho "):
                running.enter_context(_program(block.text.split(), "Serving on", times=2))
            elif block.language == "shell":
                _run_shell(block, path)
            elif block.language == "python" and not block.file:
                _run_python(block, session, path)


def _run_python(block: Block, session: dict[str, Any], path: Path) -> None:
    if excerpt := _EXCERPT.match(block.text):
        source = Path(excerpt[1]).read_text()
        assert block.text[excerpt.end() :] in source, f"{path}:{block.line} is not in {excerpt[1]}"
        return
    lines = block.text.splitlines()
    for step in ast.parse(block.text).body:
        line = lines[step.end_lineno - 1]
        ast.increment_lineno(step, block.line - 1)
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(ast.Module([step], []), str(path), "exec"), session)
        promised = _PROMISED.match(line)
        _compare(printed.getvalue(), promised[1] if promised else "", f"{path}:{step.lineno}")


def _run_shell(block: Block, path: Path) -> None:
    for command, promised in _STEP.findall(block.text):
        typed = subprocess.run(["bash", "-ec", command], capture_output=True, text=True)
        assert typed.returncode == 0, f"{path}:{block.line}: {command}{typed.stdout}{typed.stderr}"
        if promised:
            promised = re.sub(r"^# ?", "", promised, flags=re.MULTILINE)
            _compare(typed.stdout, promised, f"{path}:{block.line}: {command}")


def _compare(printed: str, promised: str, where: str) -> None:
    pattern = re.escape(promised.strip()).replace("…", ".*")
    assert re.fullmatch(pattern, printed.strip(), re.DOTALL), f"{where} printed\n{printed}"


@contextmanager
def _program(command: list[str], sign: str, times: int = 1) -> Iterator[None]:
    """A program that runs beside the page, from when it has given that sign of life."""
    log = Path(f"{len(list(Path().glob('*.log')))}.log")
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        wait_until(lambda: log.read_text().count(sign) >= times)
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
