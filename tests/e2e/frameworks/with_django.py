"""A Django application that is limited, without a project."""

from __future__ import annotations

from typing import Final
from wsgiref.types import WSGIApplication

import django
import django.conf
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from shm_store.wsgi import RateLimitMiddleware
from tests.e2e.frameworks.table import OPTIONS, PATHS, store


def app() -> WSGIApplication:
    """Return the application."""
    # Not imported as a name of this module: a look at it before setup, as by pytest for doctests, makes it fail.
    django.conf.settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
    django.setup()
    return RateLimitMiddleware(get_wsgi_application(), store(), **OPTIONS)


def _empty(_request: HttpRequest) -> HttpResponse:
    return HttpResponse()


# Django looks for it by this name.
urlpatterns: Final = [path(each.removeprefix("/"), _empty) for each in PATHS]
