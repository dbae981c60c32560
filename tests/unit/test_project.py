"""What is found of a project's web app: its own file, or none, and never a stranger's."""

import subprocess
import sys

import pytest

from tests.support.newcomer import CHECKOUT

OWN = "from jiffy.dashboard import web_app\nPAGES = ['mine']\n"


@pytest.mark.parametrize(
    ("file", "app"),
    [
        (None, "made of ()"),
        ("raise SystemExit('of another program')", "made of ()"),
        (f"{OWN}app = 'its own'", "its own"),
        (OWN, "made of ['mine']"),  # as it is while `python dashboard.py` has come to its main()
    ],
)
def test_the_web_app_is_that_of_dashboard_py_with_its_pages(file, app, tmp_path):
    if file is not None:
        (tmp_path / "dashboard.py").write_text(file)
    code = (
        "from jiffy.producer import project; print(project.app(lambda pages: f'made of {pages}'))"
    )
    # Only the engine of the checkout is there, not its dashboard.py.
    (tmp_path / "jiffy").symlink_to(CHECKOUT / "jiffy")

    assert (
        subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True) == f"{app}\n"
    )
