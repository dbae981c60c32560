"""`jiffy dashboard` and `python dashboard.py`: the web app behind waitress, as in production."""

import click

from jiffy.cli import Command, use_redis
from jiffy.producer import project
from jiffy.settings import set_environment, settings


@click.command(cls=Command, epilog="redis://localhost:6379/0 --read-only")
@click.argument("redis", required=False, callback=use_redis, is_eager=True)
@click.option("--read-only", is_flag=True, help="Show everything, and change nothing")
def command(redis: str | None, read_only: bool) -> None:
    """Serve the dashboard and the HTTP API.

    It listens on HOST:PORT, and has the pages of `dashboard.py`, if there is one.  With the URL of
    a Redis it asks for no password where only this machine reaches it.
    """
    if read_only:
        set_environment({"READ_ONLY": "yes"}, replace=True)
    config = settings()
    if redis and config.is_on_loopback and not (config.is_production or config.dashboard_password):
        set_environment({"DASHBOARD_LOGIN": "no"}, replace=False)
    from jiffy.dashboard import serve, web_app

    serve(project.app(web_app))
