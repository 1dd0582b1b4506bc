"""Build the settings in use from their sources.

Order, first wins: the environment, the env file, the TOML file, the default. An environment variable
cannot say which of several connections it means. So where the TOML file has `[[connections]]`, a
table's own key comes first, and variables are defaults for all tables; except BEAMER_API_KEY,
SEGMENT_WRITE_KEY, BEAMER_ACCOUNT and SEGMENT_DESTINATION, which say *which* connection it is and count
only where a table names them (`api_key_env = "BEAMER_API_KEY"`). To share one write key, put
`write_key_env` above the tables.

Without --env-file, --config and CONNECTOR_CONFIG, and without any key in the environment, the env file is
the one that `init` writes, if there is one. So the keys of two accounts are never mixed.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from connector.config.settings import NAME_FORM, Configured, Connection, Setting, Settings
from connector.config.sources import (
    CONFIG_VARIABLE,
    CONNECTION,
    EVERY,
    GLOBAL,
    SECRET,
    Entry,
    Layer,
    Problems,
    SettingProblem,
    env_file_in_use,
    env_file_variables,
    expanded,
    fetch,
    from_variables,
    judge_env_file_names,
    judge_environment_names,
    searched_for_keys,
)
from connector.config.toml import Document, read_toml
from connector.errors import ConfigurationError
from connector.text import counted

_IDENTITY = frozenset({"api_key", "write_key", "account", "destination", "source_id"})
_Model = TypeVar("_Model", bound=Configured)


def load(
    environ: Mapping[str, str],
    *,
    env_file: Path | None = None,
    config_file: Path | None = None,
    secrets_required: bool = True,
) -> Settings:
    """Return the settings, or raise one error with everything that is wrong."""
    problems, named_file = Problems(), env_file or config_file
    env_file = env_file or env_file_in_use(environ, config_file)
    from_file = env_file_variables(env_file, problems)
    variables = {**_entries(from_file, "env file"), **_entries(environ, "environment")}
    document = read_toml(config_file or _config_file(variables), problems)
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        raise _error(fatal, _secrets(variables, []))
    named = document.named_variables()
    judge_env_file_names(env_file, from_file, named, problems)
    unused = judge_environment_names(environ, named, problems)

    layer = from_variables(from_file, "env file", problems)
    layer |= from_variables(environ, "environment", problems)
    if document.tables:
        unused += _unused(layer, named)
    missing = searched_for_keys(environ, named_file, env_file) if secrets_required else ""
    build = _Build(variables, missing, problems)
    connections = build.connections(layer, document)
    settings = build.model(Settings, _only({**document.common, **layer}, GLOBAL), GLOBAL)
    for connection in connections:
        connection.meet(connections)
    _judge_accounts(connections, problems)
    _judge_duplicates(connections, problems)
    if problems or settings is None:
        raise _error(problems, _secrets(variables, named))
    more = {"connections": tuple(connections), "unused": tuple(unused), "env_file": env_file}
    return settings.model_copy(update=more)


def _entries(variables: Mapping[str, str], source: str) -> Layer:
    # An empty variable counts as not set.
    return {name: Entry(value, source, name) for name, value in variables.items() if value.strip()}


def _config_file(variables: Layer) -> Path | None:
    path = variables.get(CONFIG_VARIABLE)
    return expanded(path.value.strip()) if path else None


def _only(layer: Layer, settings: Mapping[str, Setting]) -> Layer:
    return {key: entry for key, entry in layer.items() if key in settings}


def _unused(layer: Layer, named: set[str]) -> list[str]:
    """Return the variables that several connections cannot share, unless a table names them."""
    return [layer[key].label for key in sorted(_IDENTITY & layer.keys()) if layer[key].label not in named]


def _secrets(variables: Layer, named: Iterable[str]) -> list[str]:
    names = {*named, *(setting.environment for setting in SECRET.values())}
    return [variables[name].value.strip() for name in names if name in variables]


class _Build:
    """Turns layers into models, and collects their problems."""

    def __init__(self, variables: Layer, searched: str, problems: Problems) -> None:
        self.variables = variables
        # Where keys were looked for, if they are required.
        self.searched = searched
        self.problems = problems

    def connections(self, layer: Layer, document: Document) -> list[Connection]:
        common, layer = _only(document.common, CONNECTION), _only(layer, CONNECTION)
        if not document.tables:
            return self._connection({**common, **layer}, "")
        shared = {**common, **{key: entry for key, entry in layer.items() if key not in _IDENTITY}}
        built: list[Connection] = []
        for table in document.tables:
            built += self._connection({**shared, **table.keys}, table.where)
        names = [connection.name for connection in built]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.add(f"Two connections are called '{name}'.", "Rename one of them.")
        return built

    def _connection(self, layer: Layer, where: str) -> list[Connection]:
        """Return a list of one connection, or of none if something is wrong with it."""
        missing = [key for key in ("api_key", "write_key") if key not in layer]
        if self.searched and missing:
            self._add_missing(missing, where)
        connection = self.model(Connection, layer, CONNECTION)
        return [connection] if connection else []

    def _add_missing(self, keys: Sequence[str], where: str) -> None:
        """Report missing keys: those of a table one by one, others together, because `init` asks for both."""
        for key in keys if where else ():
            todo = f'Add {key}_env = "NAME_OF_A_VARIABLE" or {key}_file.'
            self.problems.add(f"{key}{where} is not set.", todo)
        if not where:
            names = [EVERY[key].environment for key in keys]
            them = "it" if len(names) == 1 else "them"
            files = " and ".join(f"{name}_FILE" for name in names)
            self.problems.add(
                f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not set. {self.searched}",
                f"Run `beamer-segment init`, which asks for them and writes an env file; or set {them}, or "
                f"{files} to the path of a file with the key.",
            )

    def model(self, kind: type[_Model], layer: Layer, settings: Mapping[str, Setting]) -> _Model | None:
        fetched = {
            key: fetch(entry, self.variables, bool(self.searched), self.problems)
            for key, entry in layer.items()
        }
        entries = {key: entry for key, entry in fetched.items() if entry is not None}
        try:
            model = kind.model_validate({key: entry.value for key, entry in entries.items()})
        except ValidationError as error:
            self.problems += _wrong(error, entries, settings)
            return None
        model.remember(
            {key: entry.source for key, entry in entries.items()},
            {key: entry.holder for key, entry in entries.items() if entry.holder},
        )
        return model


def _wrong(error: ValidationError, layer: Layer, settings: Mapping[str, Setting]) -> list[SettingProblem]:
    """Return pydantic's errors in this project's words, one per setting, without the values."""
    problems: dict[str, SettingProblem] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        key = str(detail["loc"][0]) if detail["loc"] else ""
        ours = detail["msg"].removeprefix("Value error, ") if detail["type"] == "value_error" else ""
        problems.setdefault(key, _problem(layer.get(key), ours, settings.get(key)))
    return list(problems.values())


def _problem(entry: Entry | None, text: str, setting: Setting | None) -> SettingProblem:
    """Return a problem; without an entry, `text` is a sentence about several settings together."""
    if entry is None:
        return SettingProblem(text)
    stop = "" if text.endswith("?") else "."
    what = f"{entry.label}: {text or 'this does not have the expected form'}{stop}"
    return SettingProblem(what, f"Give {setting.form if setting else NAME_FORM}.")


def _judge_accounts(connections: Sequence[Connection], problems: Problems) -> None:
    """Require the same limits from all connections of an account, because the quota is the account's."""
    first: dict[str, Connection] = {}
    for connection in connections:
        account = _account(connection)
        other = first.setdefault(account, connection) if account else connection
        theirs = _quota(other)
        differ = [what for what, value in _quota(connection).items() if value != theirs[what]]
        if differ:
            problems.add(
                f"The connections '{other.name}' and '{connection.name}' share a Beamer account, "
                f"but differ in: {', '.join(differ)}.",
                "Give both the same: the quota belongs to the account.",
            )


def _judge_duplicates(connections: Sequence[Connection], problems: Problems) -> None:
    """Refuse two connections that send the same rows: Segment drops repeats for a day only."""
    for one, other in combinations(connections, 2):
        same = _ends(one) == _ends(other) and None not in _ends(one)
        if same and set(one.streams) & set(other.streams):
            problems.add(
                f"The connections '{one.name}' and '{other.name}' send the same streams of one Beamer "
                "account to one Segment source: everything would arrive twice.",
                "Give each its own streams, or its own write key.",
            )


def _ends(connection: Connection) -> tuple[object, object]:
    return _account(connection) or None, connection.destination or connection.write_key


def _account(connection: Connection) -> str:
    """Return its account's name, or that of the first connection with the same key, or that key."""
    names = (connection.account, *(account for _, account in connection.same_key))
    key = connection.api_key.get_secret_value() if connection.api_key else ""
    return next((name for name in names if name), f"{key} {connection.base_url}" if key else "")


def _quota(connection: Connection) -> Mapping[str, object]:
    limit = connection.limit
    return {
        "plan": limit.name,
        "monthly limit": limit.monthly_requests,
        "rate": limit.requests_per_second,
        "reserve": connection.reserve,
        "period day": connection.period_day,
        "start-up share": connection.startup_share,
    }


def _error(problems: Sequence[SettingProblem], secrets: Sequence[str]) -> ConfigurationError:
    if len(problems) == 1:
        what, todo = problems[0].what, problems[0].todo
    else:
        lines = [f"- {problem.what} {problem.todo}".rstrip() for problem in dict.fromkeys(problems)]
        what = "\n".join([f"The configuration has {counted(len(lines), 'problem')}:", *lines])
        todo = "Correct each; `beamer-segment check --offline` shows whether all are right."
    for secret in secrets:
        # A key may have been put into a second place, where its text is shown.
        if len(secret) >= 6:
            what, todo = what.replace(secret, "…"), todo.replace(secret, "…")
    return ConfigurationError(what, todo=todo or "Correct it; the documentation lists every setting.")
