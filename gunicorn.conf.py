"""How gunicorn serves the example service; GUNICORN_CMD_ARGS and gunicorn's own arguments override what is set here.

Read again at every SIGHUP, in a module of its own: nothing here may be meant to last.
"""

import os
import sys

from gunicorn.arbiter import Arbiter

import shm_store.gunicorn
from service.app.conf import SettingError, read
from service.app.construct import LOGGERS, announcement, application_uri, check_reload, check_server, prepare_table
from shm_store import StoreError
from shm_store.gunicorn import *  # noqa: F403 - gunicorn finds its hooks by their names in this module

try:
    loaded = read(os.environ, sys.argv[1:], check_reload)
except SettingError as error:
    sys.stderr.write(f"service: {error}\n")
    raise SystemExit(2) from None

settings = loaded.settings
shm_store.gunicorn.configure(settings.store_config)

bind = settings.bind
workers = settings.workers
worker_class = settings.worker_class
wsgi_app = application_uri(settings)
logger_class = LOGGERS[settings.log_format]
proc_name = "service"
# Its path is one per user, so a second service of the same user would take it over.
control_socket_disable = True


def on_starting(_server: Arbiter) -> None:
    """Refuse to start on a table of another geometry, or with a user that lacks a permission; a reload does neither."""
    try:
        prepare_table(settings)
        check_server(settings)
    except StoreError as error:
        sys.stderr.write(f"service: {error}\n")
        raise SystemExit(2) from None


def when_ready(server: Arbiter) -> None:
    """Run the store's hook, and announce the addresses of the service."""
    shm_store.gunicorn.when_ready(server)
    text = announcement(loaded, server.LISTENERS, server.num_workers)
    if settings.log_format == "json":
        # The log holds one JSON object a line, so the announcement is an object too and not several lines of text.
        server.log.info("%s", text.rstrip())
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        server.log.info("nobody reads standard output")
