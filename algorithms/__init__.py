"""Communication methods: pure mathematics, state and arrays in, state and arrays out."""

from .demo_optimizer import DeMo
from .errors import BadGradient, BadPayload, NoSuchMethod, TooFewContributions
from .method import Exchange, Method, Slots
from .options import BadOption, OptionError, OptionValue, UnknownOption
from .registry import METHODS, build_method, check_options, method_class
from .schedule import Schedule

__all__ = [
    "METHODS",
    "BadGradient",
    "BadOption",
    "BadPayload",
    "DeMo",
    "Exchange",
    "Method",
    "NoSuchMethod",
    "OptionError",
    "OptionValue",
    "Schedule",
    "Slots",
    "TooFewContributions",
    "UnknownOption",
    "build_method",
    "check_options",
    "method_class",
]
