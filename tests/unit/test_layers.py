"""The house keeps its order: imports only go down."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
ENGINE = sorted((CHECKOUT / "jiffy").rglob("*.py"))
JOBS = sorted((CHECKOUT / "jobs").rglob("*.py"))
FRONT_ROOMS = {"jobs", "enqueue", "scheduler", "dashboard", "worker"}
# From the top; those in one row never import each other.  All else is the ground.
FLOORS = [
    {"__init__", "__main__", "testing"},
    {"cli"},
    {"worker", "scheduler", "dashboard"},
    {"control", "dev"},
    {"producer"},
]


def imports(path, *, at_once=False):
    """The full names of what the file imports; only as it is loaded itself if `at_once`."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(name):
    """The module or folder of the engine that a full name is in; "" for another package."""
    package, _, rest = name.partition(".")
    return rest.partition(".")[0] if package == "jiffy" else ""


def floor(part):
    """Its number, from the top."""
    return next((n for n, parts in enumerate(FLOORS) if part in parts), len(FLOORS))


def own_part(path):
    return path.relative_to(CHECKOUT / "jiffy").with_suffix("").parts[0]


def name_of(path):
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("path", ENGINE, ids=name_of)
def test_imports_only_go_down(path):
    own, found = own_part(path), imports(path)
    # In development, the ground starts the private Redis server.
    others = {part(name) for name in found - {"jiffy.dev.redis_server"}} - {"", own}

    assert not {name for name in found if name.split(".")[0] in FRONT_ROOMS}
    assert not {other for other in others if floor(other) < floor(own)}
    assert floor(own) == len(FLOORS) or not others & FLOORS[floor(own)]


def test_the_ground_imports_itself_in_one_direction():
    ground = {own_part(path): path for path in ENGINE if floor(own_part(path)) == len(FLOORS)}
    graph = {
        name: {part(imported) for imported in imports(path, at_once=True)} - {""}
        for name, path in ground.items()
    }

    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("path", JOBS, ids=name_of)
def test_jobs_import_only_progress_files_and_the_read_side_of_the_engine(path):
    ours = {
        name for name in imports(path) if name.split(".")[0] in {"jiffy"} | FRONT_ROOMS - {"jobs"}
    }

    allowed = {"jiffy.progress", "jiffy.read"}
    assert {name for name in ours if not name.startswith("jiffy.files.")} <= allowed
