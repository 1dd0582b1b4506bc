"""Builds the settings in use from their sources.

Order, first wins: the environment, the env file, the TOML file, the default. An environment variable
cannot say which of several connections it means. So where the TOML file has `[[connections]]`, a
table's own key comes first, and variables are defaults for all tables; except BEAMER_API_KEY,
SEGMENT_WRITE_KEY, BEAMER_ACCOUNT and SEGMENT_DESTINATION, which say *which* connection it is and count
only where a table names them (`api_key_env = "BEAMER_API_KEY"`). To share one write key, put
`write_key_env` above the tables.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from connector.config.connection import Connection
from connector.config.setting import NAME_FORM, Configured, Setting
from connector.config.settings import Settings
from connector.config.sources import (
    CONFIG_VARIABLE,
    CONNECTION,
    EVERY,
    GLOBAL,
    SECRET,
    Given,
    Layer,
    SettingProblem,
    env_file_variables,
    expanded,
    fetch,
    from_variables,
    judge_env_file_names,
    judge_environment_names,
)
from connector.config.toml import Document, read_toml
from connector.errors import ConfigurationError

_IDENTITY = frozenset({"api_key", "write_key", "account", "destination"})
_Model = TypeVar("_Model", bound=Configured)


def load(
    environ: Mapping[str, str],
    *,
    env_file: Path | None = None,
    config_file: Path | None = None,
    secrets_required: bool = True,
) -> Settings:
    """Return the settings, or raise one error with everything that is wrong."""
    problems: list[SettingProblem] = []
    from_file = env_file_variables(env_file, problems)
    variables = {**_given(from_file, "env file"), **_given(environ, "environment")}
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
    build = _Build(variables, secrets_required, problems)
    connections = build.connections(layer, document)
    settings = build.model(Settings, _only({**document.common, **layer}, GLOBAL), GLOBAL)
    for connection in connections:
        connection.meet(connections)
    _judge_accounts(connections, problems)
    _judge_doubles(connections, problems)
    if problems or settings is None:
        raise _error(problems, _secrets(variables, named))
    return settings.model_copy(update={"connections": tuple(connections), "unused": tuple(unused)})


def _given(variables: Mapping[str, str], source: str) -> Layer:
    """An empty variable counts as not set."""
    return {name: Given(value, source, name) for name, value in variables.items() if value.strip()}


def _config_file(variables: Layer) -> Path | None:
    given = variables.get(CONFIG_VARIABLE)
    return expanded(given.value.strip()) if given else None


def _only(layer: Layer, settings: Mapping[str, Setting]) -> Layer:
    return {key: given for key, given in layer.items() if key in settings}


def _unused(layer: Layer, named: set[str]) -> list[str]:
    """The variables that several connections cannot share, unless a table asks for them."""
    return [layer[key].label for key in sorted(_IDENTITY & layer.keys()) if layer[key].label not in named]


def _secrets(variables: Layer, named: Iterable[str]) -> list[str]:
    names = {*named, *(setting.environment for setting in SECRET.values())}
    return [variables[name].value.strip() for name in names if name in variables]


class _Build:
    """Turns layers into models and collects their problems."""

    def __init__(self, variables: Layer, secrets_required: bool, problems: list[SettingProblem]) -> None:
        self.variables = variables
        self.secrets_required = secrets_required
        self.problems = problems

    def connections(self, layer: Layer, document: Document) -> list[Connection]:
        common, layer = _only(document.common, CONNECTION), _only(layer, CONNECTION)
        if not document.tables:
            return self._connection({**common, **layer}, "")
        shared = {**common, **{key: given for key, given in layer.items() if key not in _IDENTITY}}
        built: list[Connection] = []
        for table in document.tables:
            built += self._connection({**shared, **table.keys}, table.where)
        self._judge_names([connection.name for connection in built])
        return built

    def _connection(self, layer: Layer, where: str) -> list[Connection]:
        """A list of one, or of none where something is wrong with it."""
        if self.secrets_required:
            missing = [key for key in ("api_key", "write_key") if key not in layer]
            self.problems += [_missing(key, where) for key in missing]
        connection = self.model(Connection, layer, CONNECTION)
        return [connection] if connection else []

    def model(self, kind: type[_Model], layer: Layer, settings: Mapping[str, Setting]) -> _Model | None:
        fetched = {key: self._fetched(given) for key, given in layer.items()}
        ready = {key: given for key, given in fetched.items() if given is not None}
        try:
            built = kind.model_validate({key: given.value for key, given in ready.items()})
        except ValidationError as error:
            self.problems += _wrong(error, ready, settings)
            return None
        built.remember(
            {key: given.source for key, given in ready.items()},
            {key: given.holder for key, given in ready.items() if given.holder},
        )
        return built

    def _fetched(self, given: Given) -> Given | None:
        return fetch(given, self.variables, self.secrets_required, self.problems)

    def _judge_names(self, names: Sequence[str]) -> None:
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(
                SettingProblem(f"Two connections are called '{name}'.", "Rename one of them.")
            )


def _missing(key: str, where: str) -> SettingProblem:
    name = EVERY[key].environment
    if where:
        return SettingProblem(
            f"{key}{where} is not set.", f'Add {key}_env = "NAME_OF_A_VARIABLE" or {key}_file.'
        )
    return SettingProblem(
        f"{name} is not set.", f"Set it, or {name}_FILE to the path of a file that holds it."
    )


def _wrong(error: ValidationError, layer: Layer, settings: Mapping[str, Setting]) -> list[SettingProblem]:
    """Return pydantic's errors in this project's words, one per setting, without the values."""
    found: dict[str, SettingProblem] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        key = str(detail["loc"][0]) if detail["loc"] else ""
        ours = detail["msg"].removeprefix("Value error, ") if detail["type"] == "value_error" else ""
        found.setdefault(key, _problem(layer.get(key), ours, settings.get(key)))
    return list(found.values())


def _problem(given: Given | None, said: str, setting: Setting | None) -> SettingProblem:
    """Without `given` the models' own judgement on several settings together, a whole sentence."""
    if given is None:
        return SettingProblem(said)
    form = setting.form if setting else NAME_FORM
    stop = "" if said.endswith("?") else "."
    return SettingProblem(
        f"{given.label}: {said or 'this does not have the expected form'}{stop}", f"Give {form}."
    )


def _judge_accounts(connections: Sequence[Connection], problems: list[SettingProblem]) -> None:
    """Require the same limits from all connections of an account, because the quota is the account's."""
    first: dict[str, Connection] = {}
    for connection in connections:
        account = _account(connection)
        other = first.setdefault(account, connection) if account else connection
        theirs = _quota(other)
        differ = [what for what, value in _quota(connection).items() if value != theirs[what]]
        if differ:
            problems.append(
                SettingProblem(
                    f"The connections '{other.name}' and '{connection.name}' share a Beamer account, "
                    f"but differ in: {', '.join(differ)}.",
                    "Give both the same: the quota belongs to the account.",
                )
            )


def _judge_doubles(connections: Sequence[Connection], problems: list[SettingProblem]) -> None:
    """Refuse two connections that send the same rows: Segment drops repeats for a day only."""
    for one, other in combinations(connections, 2):
        same = _ends(one) == _ends(other) and None not in _ends(one)
        if same and set(one.streams) & set(other.streams):
            problems.append(
                SettingProblem(
                    f"The connections '{one.name}' and '{other.name}' send the same streams of one Beamer "
                    "account to one Segment source: everything would arrive twice.",
                    "Give each its own streams, or its own write key.",
                )
            )


def _ends(connection: Connection) -> tuple[object, object]:
    return _account(connection) or None, connection.destination or connection.write_key


def _account(connection: Connection) -> str:
    """What its account is known by: a name of its own, or of the first with the same key, or that key."""
    names = (connection.account, *(given for _, given in connection.same_key))
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
        what = "\n".join([f"The configuration has {len(lines)} problems:", *lines])
        todo = ""
    for secret in secrets:
        # A key may have been put into a second place, where its text is shown.
        if len(secret) >= 6:
            what, todo = what.replace(secret, "…"), todo.replace(secret, "…")
    return ConfigurationError(what, todo=todo or "Correct it; the README lists every setting.")
