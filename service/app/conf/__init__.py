"""The settings of the service: what they are, where they come from, and which are wrong."""

from service.app.conf.errors import SettingError
from service.app.conf.load import Loaded, load
from service.app.conf.settings import Settings
from service.app.conf.sources import CONFIG, flag_name, variable_name

__all__ = ["CONFIG", "Loaded", "SettingError", "Settings", "flag_name", "load", "variable_name"]
