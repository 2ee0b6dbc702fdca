"""Short links: make, list, look up, follow, delete."""

from service.business.features.links.errors import CodeTakenError, LinkNotFoundError, StorageUnavailableError
from service.business.features.links.links import Links
from service.business.features.links.storage import LinkStorage

__all__ = ["CodeTakenError", "LinkNotFoundError", "LinkStorage", "Links", "StorageUnavailableError"]
