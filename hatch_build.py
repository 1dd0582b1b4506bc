"""Makes the README's links absolute for a package index, which shows the README alone."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# A page of docs/ lies in the site without that folder (see docs/hooks.py); these lie elsewhere.
PAGES = {
    "CHANGELOG.md": "reference/changelog.html",
    "CONTRIBUTING.md": "contributing/index.html",
    "LICENSE": "files/LICENSE",
    "SECURITY.md": "explanation/security.html",
}
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


class ReadmeHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        site = metadata["urls"]["Documentation"]

        def absolute(link: re.Match[str]) -> str:
            page = PAGES.get(link[1]) or re.sub(r"\.md$", ".html", link[1].removeprefix("docs/"))
            return f"]({site}{page}"

        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": LINK.sub(absolute, text)}
