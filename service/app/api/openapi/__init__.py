"""Describes the service to programs, as OpenAPI 3.1."""

from service.app.api.openapi.document import document
from service.app.api.openapi.resource import OpenApi

__all__ = ["OpenApi", "document"]
