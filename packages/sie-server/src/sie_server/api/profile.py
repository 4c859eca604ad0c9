"""What a request means where it says nothing: the options of its profile."""

from typing import TypeVar

import msgspec

from sie_server import wire
from sie_server.catalog.catalog import Profile

T = TypeVar("T", bound=wire.Options)


def completed(options: T, profile: Profile) -> T:
    """The options, each that the request leaves open as the profile has it."""
    open_ = [name for name in profile.__struct_fields__ if getattr(options, name, ...) is None]
    return msgspec.structs.replace(options, **{name: getattr(profile, name) for name in open_})
