"""The error of a setting that cannot be used."""

from __future__ import annotations


class SettingError(ValueError):
    """A setting that cannot be used; its text is one line that names the setting, its value and its source."""

    def __init__(self, setting: str, value: object, source: str, remedy: str) -> None:
        super().__init__(f"{setting} is {value!r} ({source}): {remedy}")
        self.setting = setting
        self.value = value
        self.source = source
        self.remedy = remedy
