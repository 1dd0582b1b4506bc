"""The repository's top pages, and the files that pages link to, become part of the site.

In the repository every link is a relative path, so that it works on a code host, too. Here each becomes the
path within the site.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
# Pages that do not lie in docs/, and where the site has them.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing/index.md",
    "SECURITY.md": "explanation/security.md",
    "CHANGELOG.md": "reference/changelog.md",
}
LINK = re.compile(r"(\]\()([^)\s#]+)")
FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


def in_repository(uri: str) -> str:
    """Return the path in the repository of a page of the site."""
    return next((path for path, page in PAGES.items() if page == uri), f"docs/{uri}")


def in_site(path: str) -> str:
    """Return the path in the site of a file of the repository."""
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"


def targets(path: str, text: str) -> set[str]:
    """Return the files of the repository that a page links to."""
    links = (target for _, target in LINK.findall(FENCE.sub("", text)) if "://" not in target)
    return {normpath(f"{PurePosixPath(path).parent}/{target}") for target in links}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages at the top, and every other file that a page links to."""
    for path, uri in PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_text(encoding="utf-8")))
    pages = [file for file in files if file.is_documentation_page()]
    linked = set().union(*(targets(in_repository(page.src_uri), page.content_string) for page in pages))
    for path in sorted(linked):
        if not path.startswith("docs/") and path not in PAGES and (ROOT / path).is_file():
            files.append(File.generated(config, in_site(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make the links of a page paths within the site."""
    uri = page.file.src_uri
    folder = PurePosixPath(in_repository(uri)).parent

    def moved(match: re.Match[str]) -> str:
        head, target = match.groups()
        if re.match(r"[a-z]+:", target):
            return match[0]
        return head + relpath(in_site(normpath(f"{folder}/{target}")), PurePosixPath(uri).parent)

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)
