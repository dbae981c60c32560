"""The web app, put together.  What it shows is in `pages/`, who may see it in `auth.py`."""

from collections.abc import Iterable

from flask import Blueprint, Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from jiffy import connection, log
from jiffy.dashboard import api, auth, headers, overview, problems, rq, words
from jiffy.dashboard.pages import health, home, job, login, metrics, schedule
from jiffy.producer.enqueue import check_options
from jiffy.program import in_one_line
from jiffy.settings import Settings, settings

MOST_BODY_BYTES = 1024 * 1024


def web_app(pages: Iterable[Blueprint] = ()) -> Flask:
    """The app with the user's own pages, for a server to run.

    What is wrong with the settings ends the process with one line and exit code 2.
    """
    with in_one_line():
        config = settings()
        log.setup(config.log_level)
        check_options()
        return create_app(config, pages)


def create_app(config: Settings, pages: Iterable[Blueprint] = ()) -> Flask:
    """The same without a process around it.  Raises MissingSetting without credentials.

    From here on the whole process shares WEB_CONNECTIONS to Redis.
    """
    connection.share_in_web()
    app = Flask("jiffy.dashboard")
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(words.FILTERS)
    app.jinja_env.globals["known_states"] = {*overview.STATES, "stopped"}
    auth.guard(app, config)
    headers.add(app)
    problems.show(app)
    rq.mount(app)
    ours = (home, job, schedule, login, health, metrics)
    for blueprint in (*(module.page for module in ours), api.blueprint, *pages):
        app.register_blueprint(blueprint)
    if config.dyno:  # its router sets these, and nobody else can reach us
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)  # type: ignore[method-assign]
    return app
