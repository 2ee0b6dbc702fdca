"""The settings of the service: what they are, where they come from, and which are wrong."""

from service.app.conf.errors import SettingError
from service.app.conf.load import Loaded, load
from service.app.conf.policies import ADMIN, ADMIN_FAILURES, default_policy
from service.app.conf.running import read, running
from service.app.conf.secrets import masked
from service.app.conf.settings import Settings
from service.app.conf.sources import CONFIG, flag_name, variable_name

__all__ = [
    "ADMIN",
    "ADMIN_FAILURES",
    "CONFIG",
    "Loaded",
    "SettingError",
    "Settings",
    "default_policy",
    "flag_name",
    "load",
    "masked",
    "read",
    "running",
    "variable_name",
]
