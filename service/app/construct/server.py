"""What gunicorn is told about the service, and what people are told once gunicorn listens."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from service.app.conf import Loaded, Settings, masked
from shm_store.durations import to_text

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - recognised, not bound


def application_uri(settings: Settings) -> str:
    """Return where gunicorn finds the application for its worker class."""
    factory = "asgi" if "asgi" in settings.worker_class.lower() else "wsgi"
    return f"service.app.construct:{factory}()"


def announcement(loaded: Loaded, listeners: Sequence[object], workers: int) -> str:
    """Return the text for the operator at the start: the addresses, the limits, and a line to try.

    Args:
        loaded: The settings and policies of the start.
        listeners: Gunicorn's sockets, which know the port if the setting was port 0.
        workers: The number of worker processes.
    """
    settings = loaded.settings
    urls = [str(listener) for listener in listeners]
    who = "client" if settings.key_header is None else f"value of {settings.key_header}"
    interval = to_text(settings.store_config.quota.interval_ns)
    return (
        f"Serving {', '.join(urls)} with {workers} workers ({settings.worker_class})\n"
        f"Limit: {settings.limit} requests per {interval} and {who}, shared by {_sharing(settings)}\n"
        f"{_others(loaded)}"
        f"{_dashboard(settings, urls[0])}"
        f"Try:   {_curl(urls[0])}\n"
    )


def _sharing(settings: Settings) -> str:
    where = masked("store", settings.store)
    if settings.place.url is None:
        return f"all workers in {where}"
    return f"all workers of all hosts in {where}, and counted in shm://{settings.segment}"


def _others(loaded: Loaded) -> str:
    names = [f"{policy.name}{' (shadow)' * (policy.mode == 'shadow')}" for policy in loaded.policies[1:]]
    return f"And:   {', '.join(names)}, by {loaded.file}\n" if names else ""


def _dashboard(settings: Settings, url: str) -> str:
    is_shown = settings.admin_token is not None and not url.startswith("unix:")
    return f"Watch: {_reachable(url)}/dashboard, with the admin_token\n" if is_shown else ""


def _curl(url: str) -> str:
    if url.startswith("unix:"):
        return f"curl -i --unix-socket {shlex.quote(url.removeprefix('unix:'))} http://localhost/v1/ping"
    return f"curl -i {_reachable(url)}/v1/ping"


def _reachable(url: str) -> str:
    for wildcard, loopback in _WILDCARDS.items():
        url = url.replace(f"//{wildcard}:", f"//{loopback}:")
    return url
