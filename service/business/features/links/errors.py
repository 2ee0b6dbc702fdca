"""What can go wrong with a short link."""

from __future__ import annotations


class LinkNotFoundError(LookupError):
    """There is no link of that code."""

    def __init__(self, code: str) -> None:
        super().__init__(f"there is no link {code!r}")
        self.code = code


class CodeTakenError(ValueError):
    """Another link has that code."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the code {code!r} is taken: choose another, or leave it out to have one made")
        self.code = code


class StorageUnavailableError(RuntimeError):
    """The storage could not do its part, for a reason that is not the client's."""

    def __init__(self, storage: str, reason: str) -> None:
        super().__init__(f"{storage}: {reason}")
        self.storage = storage
        self.reason = reason
