"""Build-time metadata of the package: the project's address, which only a release knows."""

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ProjectLinks(MetadataHookInterface):
    """Takes the links of the package from PROJECT_URL; without it there are none."""

    def update(self, metadata: dict[str, Any]) -> None:
        url = os.environ.get("PROJECT_URL", "")
        metadata["urls"] = {"Source": url} if url else {}
