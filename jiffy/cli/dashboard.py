"""`jiffy dashboard` and `python dashboard.py`: the web app behind waitress, as in production."""

import click

from jiffy.cli import Command, use_redis
from jiffy.producer import project


@click.command(cls=Command, epilog="redis://localhost:6379/0")
@click.argument("redis", required=False, callback=use_redis, expose_value=False, is_eager=True)
def command() -> None:
    """Serve the dashboard and the HTTP API.

    It listens on HOST:PORT, and has the pages of `dashboard.py`, if there is one.
    """
    from jiffy.dashboard import serve, web_app

    serve(project.app(web_app))
