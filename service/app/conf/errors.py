"""The error of a setting that cannot be used."""

from __future__ import annotations

from service.app.conf.secrets import masked
from shm_store.errors import named, shown


class SettingError(ValueError):
    """A setting that cannot be used; its text is one line that names the setting, its value and its source.

    The value of a secret is masked, in the text and in the field.
    """

    def __init__(self, setting: str, value: object, source: str, remedy: str) -> None:
        value = masked(setting, value)
        super().__init__(f"{named(setting)} is {shown(value)} ({source}): {remedy}")
        self.setting = setting
        self.value = value
        self.source = source
        self.remedy = remedy
