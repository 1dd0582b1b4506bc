"""What the documents show can be typed: commands, paths, links, settings, the crontab."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connector.config import known_settings, load
from tests.docs.sections import PAGES, ROOT, commands

CONFIG = ROOT / "config"
CRONTAB = CONFIG / "crontab.example"
CONFIGS = sorted(each for each in CONFIG.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
SHOWN = (*PAGES, *CONFIGS, ROOT / "Dockerfile")
CONTEXTS = dict(commands())

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
# Where a command ends: a redirection or the next one.
ENDS = re.compile(r"\d?>>?|<|\|\|?|&&?|;")


def ident(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- commands -------------------------------------------------------------------------------------------


def judge(words: list[str]) -> None:
    """Parse a command line as the program would, without running anything."""
    context: Any = CONTEXTS["beamer-segment"]
    while words and (inner := CONTEXTS.get(f"{context.command_path} {words[0]}")):
        context, words = inner, words[1:]
    if hasattr(context.command, "commands"):
        assert words in ([], ["--help"], ["--version"]), f"{context.command_path} has no {words}"
        return
    known = {
        name for parameter in context.command.params for name in (*parameter.opts, *parameter.secondary_opts)
    }
    options = {word.split("=")[0] for word in words if word.startswith("-")}
    assert options <= known, f"{context.command_path} has no {options - known}"
    if words:  # a mere mention need not be complete
        context.command.make_context(context.info_name, list(words), parent=context.parent)


def shell_commands(line: str) -> Iterator[list[str]]:
    """The words behind each `beamer-segment` of a shell line."""
    words = shlex.split(line, comments=True)
    for start, word in enumerate(words):
        if word.rpartition("/")[2] == "beamer-segment" and (
            start == 0 or not words[start - 1].startswith("-")
        ):
            rest = words[start + 1 :]
            end = next((index for index, each in enumerate(rest) if ENDS.match(each)), len(rest))
            yield rest[:end]


def shell_lines(text: str) -> Iterator[str]:
    for language, body in FENCE.findall(text):
        if language in ("console", "sh"):
            for line in map(str.strip, body.replace("\\\n", " ").splitlines()):
                if language == "sh" or line.startswith("$ "):
                    yield line.removeprefix("$ ")


def shown_commands() -> list[str]:
    lines = {line for page in PAGES for line in shell_lines(page.read_text(encoding="utf-8"))}
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    inline = set(re.findall(r"`(beamer-segment [^`]+)`", text))
    examples = {
        line.removeprefix("#").strip()
        for file in CONFIG.glob("*.example")
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.match(r"#\s+beamer-segment ", line)
    }
    return sorted(line for line in lines | inline | examples if "beamer-segment" in line)


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_that_is_shown_exists_with_its_options(line: str) -> None:
    for words in shell_commands(line):
        judge(words)


def test_the_commands_of_the_readme_were_found() -> None:
    found = [words for line in shown_commands() for words in shell_commands(line)]
    assert ["demo"] in found
    assert any(words[:1] == ["sync"] and "--env-file" in words for words in found)


def test_make_has_every_target_that_is_shown() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shown = set(re.findall(r"`make ([a-z-]+)", text)) | set(
            re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
        )
        assert shown <= targets, page.name


# --- cron -----------------------------------------------------------------------------------------------


def jobs() -> list[list[str]]:
    """The example's jobs, those commented out too, as five fields and a command."""
    lines = CRONTAB.read_text(encoding="utf-8").splitlines()
    bare = [line.removeprefix("#") for line in lines]
    return [line.split(maxsplit=5) for line in bare if re.match(r"[\d*/,-]+ [\d*/,-]+ ", line)]


def test_the_crontab_holds_jobs_that_can_run() -> None:
    assert len(jobs()) > 1
    for *fields, command in jobs():
        assert all(re.fullmatch(r"[\d*/,-]+", field) for field in fields), fields
        assert command.startswith("/"), "cron knows no PATH to speak of"
        assert "%" not in command, "cron turns % into a line break"
        assert all(
            path.startswith("/")
            for path in re.findall(r"(?:--env-file |--config |cat |>>?)([^&\s]\S*)", command)
        )
        found = list(shell_commands(command))
        assert found, command
        for words in found:
            judge(words)


# --- settings -------------------------------------------------------------------------------------------


def test_every_setting_stands_in_the_example_files() -> None:
    env = (CONFIG / "beamer-segment.env.example").read_text(encoding="utf-8")
    toml = (CONFIG / "connector.toml.example").read_text(encoding="utf-8")
    for setting in known_settings():
        assert re.search(rf"^#?{setting.environment}=", env, re.MULTILINE), setting.environment
        keys = [key for key in setting.toml.split(", ") if key]
        assert not keys or re.search(rf"^#?({'|'.join(keys)}) = ", toml, re.MULTILINE), setting.toml


def test_the_env_example_is_complete_with_two_keys(tmp_path: Path) -> None:
    text = (CONFIG / "beamer-segment.env.example").read_text(encoding="utf-8")
    file = tmp_path / "beamer-segment.env"
    file.write_text(re.sub(r"^(BEAMER_API_KEY|SEGMENT_WRITE_KEY)=$", r"\1=made-up", text, flags=re.MULTILINE))
    file.chmod(0o600)
    assert load({}, env_file=file).connection().name == "default"


def test_the_settings_that_the_pages_name_exist() -> None:
    known = {setting.environment for setting in known_settings()}
    known |= {f"{name}_FILE" for name in known}
    ours = re.compile(r"\b(?:BEAMER|SEGMENT|CONNECTOR)_[A-Z_]+\b")
    for page in PAGES:
        # What a program prints may hold a misspelt one.
        text = re.sub(
            r"^```text\n.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
        )
        # BEAMER_API_KEY_EU and the like are names that a TOML file gives.
        named = {name for name in ours.findall(text) if not re.search(r"_KEY_(?:EU|US)$", name)}
        assert named <= known, page.name


# --- links and paths ------------------------------------------------------------------------------------


def slugs(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#{1,6} (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if target.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in slugs(file.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_files_that_are_named_exist(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    places = r"`((?:connector|tests|config|migrations|\.ci)/[\w./*-]*)`"
    for named in re.findall(places, text):
        assert list(ROOT.glob(named.rstrip("/"))), named
    rooms = re.findall(r"`((?:beamer|segment|state|sync|service|sandbox|commands)/[\w./]*)`", text)
    for named in rooms:
        assert (ROOT / "connector" / named).exists(), named


# --- what has no place in a page ------------------------------------------------------------------------

STRAY = {
    "an index": r"(?i)pypi|pythonhosted|index-url|/simple\b",
    "a machine's path": r"/(?:work|root|tmp)/|site-packages",
    "a machine's name": "(?i)" + "farm" + "-",
    "a key": r"\b(?!feature_request_|beamer_segment_)[A-Za-z0-9_]{40,}\b",
}


@pytest.mark.parametrize("page", SHOWN, ids=ident)
@pytest.mark.parametrize("what", STRAY)
def test_a_page_holds_nothing_of_the_machine_it_was_written_on(page: Path, what: str) -> None:
    assert not re.search(STRAY[what], page.read_text(encoding="utf-8"))


# --- what the program itself names ----------------------------------------------------------------------


def test_the_program_names_no_file_that_only_the_repository_has() -> None:
    repository = {each.name for each in ROOT.iterdir() if each.suffix} | {each.name for each in CONFIGS}
    for file in sorted((ROOT / "connector").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, OF_DOCS)}
        texts = [each.value for each in ast.walk(tree) if isinstance(each, ast.Constant)]
        for text in texts:
            if isinstance(text, str) and text not in docs:
                named = set(re.findall(r"[\w-]+(?:\.[\w-]+)+", text)) & repository
                assert named == set(), f"{file.name}: {text}"


OF_DOCS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
