"""The house keeps its order: imports only go down."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
ENGINE = sorted((CHECKOUT / "jiffy").rglob("*.py"))
JOBS = sorted((CHECKOUT / "jobs").rglob("*.py"))
FRONT_ROOMS = {"jobs", "enqueue", "scheduler", "dashboard", "worker"}
UPPER_FLOORS = {"worker", "scheduler", "dashboard", "cli"}
# The front desk names what stands above it, and loads it when asked; `python -m` runs the top one.
FRONT_DESK = CHECKOUT / "jiffy/__init__.py"
ENTRANCES = (FRONT_DESK, CHECKOUT / "jiffy/__main__.py")


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


def floor(name):
    """The upper floor that a module's full name belongs to, or "" for the flat files."""
    parts = name.split(".")
    return parts[1] if parts[0] == "jiffy" and len(parts) > 1 and parts[1] in UPPER_FLOORS else ""


def own_floor(path):
    return floor(".".join(path.relative_to(CHECKOUT).with_suffix("").parts))


def name_of(path):
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("path", ENGINE, ids=name_of)
def test_the_engine_never_imports_a_front_room(path):
    assert not {name for name in imports(path) if name.split(".")[0] in FRONT_ROOMS}


@pytest.mark.parametrize("path", [path for path in ENGINE if path not in ENTRANCES], ids=name_of)
def test_worker_scheduler_and_dashboard_are_imported_by_themselves_and_the_command_alone(path):
    if own_floor(path) != "cli":
        assert {floor(name) for name in imports(path)} <= {"", own_floor(path)}


def test_flat_files_import_each_other_in_one_direction():
    flat = {path.stem: path for path in ENGINE if path.parent == FRONT_DESK.parent}
    del flat["__init__"], flat["__main__"]
    graph = {
        name: {
            imported.split(".")[1]
            for imported in imports(path, at_once=True)
            if imported.startswith("jiffy.")
        }
        for name, path in flat.items()
    }

    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("path", JOBS, ids=name_of)
def test_jobs_import_only_progress_files_and_the_read_side_of_the_engine(path):
    ours = {
        name for name in imports(path) if name.split(".")[0] in {"jiffy"} | FRONT_ROOMS - {"jobs"}
    }

    allowed = {"jiffy.progress", "jiffy.read"}
    assert {name for name in ours if not name.startswith("jiffy.files.")} <= allowed
