"""Environment, env file, TOML: which wins, and what is refused."""

import os
import re
from pathlib import Path

import pytest

from connector.config import Settings, env_file_in_use, load, redacted
from connector.errors import ConfigurationError

KEYS = {"BEAMER_API_KEY": "b_key-for-tests=", "SEGMENT_WRITE_KEY": "wk-for-tests"}


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return write(tmp_path / "a.env", "", 0o600)


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def refusal(
    environ: dict[str, str] | None = None, env_file: Path | None = None, config_file: Path | None = None
) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(KEYS if environ is None else environ, env_file=env_file, config_file=config_file)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return f"{caught.value.what} {caught.value.todo}"


def sources(settings: Settings) -> dict[str, str]:
    return {shown.name: shown.source for shown in redacted(settings)}


# --- precedence ---------------------------------------------------------------------------------------


def test_environment_before_env_file_before_toml_before_default(tmp_path: Path, env_file: Path) -> None:
    toml = write(tmp_path / "c.toml", 'traits = "all"\nanonymous = "send"\nref_url = "full"\n')
    write(env_file, "BEAMER_TRAITS=email\nBEAMER_ANONYMOUS=shared\n", 0o600)
    settings = load({**KEYS, "BEAMER_TRAITS": "none"}, env_file=env_file, config_file=toml)
    found = settings.connection()
    assert (found.traits, found.anonymous, found.ref_url, found.metrics) == ("none", "shared", "full", False)
    where = sources(settings)
    assert where["BEAMER_TRAITS"] == "environment"
    assert where["BEAMER_ANONYMOUS"] == "env file"
    assert where["BEAMER_REF_URL"] == str(toml)
    assert where["BEAMER_METRICS"] == "default"


def test_an_empty_variable_counts_as_not_set(env_file: Path) -> None:
    write(env_file, "BEAMER_TRAITS=email\n", 0o600)
    environ = {**KEYS, "BEAMER_TRAITS": "", "BEAMER_PLAN": " ", "BEAMER_STREAMS": ""}
    assert load(environ, env_file=env_file).connection().traits == "email"


def test_the_config_file_may_be_named_by_the_env_file(tmp_path: Path, env_file: Path) -> None:
    toml = write(tmp_path / "c.toml", 'traits = "all"\n')
    write(env_file, f"CONNECTOR_CONFIG={toml}\n", 0o600)
    assert load(KEYS, env_file=env_file).connection().traits == "all"
    other = write(tmp_path / "d.toml", 'traits = "email"\n')
    assert load(KEYS, env_file=env_file, config_file=other).connection().traits == "email"


# --- the environment ----------------------------------------------------------------------------------


def test_missing_keys_are_not_always_needed() -> None:
    assert load({}, secrets_required=False).connection().api_key is None


@pytest.mark.parametrize(
    ("environ", "given", "says"),
    [
        ({}, None, "BEAMER_API_KEY and SEGMENT_WRITE_KEY are not set. Looked in the environment."),
        (
            {"HOME": "/h"},
            None,
            "Looked in the environment; /h/.config/beamer-segment/beamer-segment.env does",
        ),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/c"}, None, "; /c/beamer-segment/beamer-segment.env does not "),
        ({"HOME": "/h", "BEAMER_API_KEY": "b"}, None, "SEGMENT_WRITE_KEY is not set. Looked in the environ"),
        ({"HOME": "/h", "BEAMER_API_KEY": "b"}, None, ".env is not read, because BEAMER_API_KEY is set."),
        ({"HOME": "/h"}, "a.env", "Looked in the environment and in "),
    ],
)
def test_missing_keys_are_named_with_where_they_were_looked_for(
    environ: dict[str, str], given: str | None, says: str, env_file: Path
) -> None:
    text = refusal(environ, env_file if given else None)
    assert says in text
    assert "Run `beamer-segment init`" in text
    assert "SEGMENT_WRITE_KEY_FILE" in text


# --- the env file that `init` writes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "is_read"),
    [
        ({}, True),
        ({"BEAMER_PLAN": "pro"}, True),
        ({"BEAMER_API_KEY": " "}, True),
        ({"BEAMER_API_KEY": "b_other"}, False),
        ({"SEGMENT_WRITE_KEY": "w_other"}, False),
        ({"BEAMER_API_KEY_FILE": "/b"}, False),
        ({"CONNECTOR_CONFIG": "connector.toml"}, False),
        ({"XDG_CONFIG_HOME": "/nowhere"}, False),
        ({"XDG_CONFIG_HOME": "relative"}, True),
        ({"HOME": "relative"}, False),
    ],
)
def test_the_file_of_init_is_read_if_nothing_else_names_a_file_or_a_key(
    environ: dict[str, str], is_read: bool, tmp_path: Path
) -> None:
    folder = tmp_path / ".config" / "beamer-segment"
    folder.mkdir(parents=True)
    file = write(folder / "beamer-segment.env", "BEAMER_API_KEY=b_mine\nSEGMENT_WRITE_KEY=w_mine\n", 0o600)
    around = {"HOME": str(tmp_path), **environ}
    assert env_file_in_use(around) == (file if is_read else None)
    assert env_file_in_use(around, tmp_path / "c.toml") is None
    if is_read:
        settings = load(around)
        key = settings.connection().api_key
        assert key is not None
        assert (key.get_secret_value(), settings.env_file) == ("b_mine", file)
        file.chmod(0o644)
        assert "chmod 600" in refusal(around)


UNKNOWN = {
    "BEAMER_REGION": "SEGMENT_REGION",
    "BEAMER_MONTHLY_LIMIT": "BEAMER_MONTHLY_REQUESTS",
    "SEGMENT_EU": "SEGMENT_REGION=eu",
    "BEAMER_SINCE": "BEAMER_START_DATE",
    "SEGMENT_REGOIN": "SEGMENT_REGION",
    "segment_region": "SEGMENT_REGION",
    "SEGMENT_REGION_FILE": "SEGMENT_REGION",
    "BEAMER_SEGMENT_REGION": "SEGMENT_REGION",
    "BEAMER_WRITE_KEY": "SEGMENT_WRITE_KEY",
    "SEGMENT_API_KEY": "SEGMENT_WRITE_KEY",
    "SEGMENT_BASE_URL": "SEGMENT_HOST",
    "SEGMENT_WRITEKEY": "SEGMENT_WRITE_KEY",
    "BEAMER_APIKEY": "BEAMER_API_KEY",
    "BEAMER_API_KEY_FIEL": "BEAMER_API_KEY_FILE",
    "BEAMER_API_KEY_EU": "BEAMER_API_KEY",
    "BEAMER_DATABASE_URL": "DATABASE_URL",
    "CONNECTOR_LOG_LEVEL": "LOG_LEVEL",
    "CONNECTOR_PLAN": "BEAMER_PLAN",
    "CONNECTOR_DEBUG": "LOG_LEVEL=debug",
    "BEAMER_STREEMS": "BEAMER_STREAMS",
    "Beamer_Plan": "BEAMER_PLAN",
    "BEAMER_ENV_FILE": "the option --env-file",
    # Another program's, for all that is known; nobody can tell it from a slip.
    "BEAMER_PRODUCT_ID": "",
    "SEGMENT_WORKSPACE": "",
    "CONNECTOR_ID": "",
    # Of the form of a link, but with another value.
    "SEGMENT_PORT": "CONNECTOR_BIND",
    "BEAMER_ACCOUNT_NAME": "BEAMER_ACCOUNT",
}


@pytest.mark.parametrize(("name", "meant"), UNKNOWN.items())
def test_an_unknown_variable_is_an_error_that_names_the_nearest(name: str, meant: str) -> None:
    text = refusal({**KEYS, name: "443"})
    assert f"{name} is not a setting. Did you mean {meant}{'?' if meant else ''}" in text
    assert f"env -u {name}" in text
    assert load({**KEYS, name: " "}).connection().region == "us", "empty is not set"


@pytest.mark.parametrize(("name", "meant"), UNKNOWN.items())
def test_an_unknown_name_in_an_env_file(env_file: Path, name: str, meant: str) -> None:
    write(env_file, f"{name}=x\n", 0o600)
    assert f"is not a setting. Did you mean {meant}{'?' if meant else ''}" in refusal(KEYS, env_file)


LINKS = {
    "_SERVICE_HOST": "10.96.11.7",
    "_SERVICE_PORT": "80",
    "_SERVICE_PORT_HTTP": "80",
    "_SERVICE_PORT_HTTP_ALT": "8080",
    "_PORT": "tcp://10.96.11.7:80",
    "_PORT_80_TCP": "tcp://10.96.11.7:80",
    "_PORT_80_TCP_PROTO": "tcp",
    "_PORT_80_TCP_PORT": "80",
    "_PORT_80_TCP_ADDR": "10.96.11.7",
    "_PORT_53_UDP": "udp://10.96.11.7:53",
    "_PORT_53_UDP_ADDR": "fd00::7",
    "_PORT_9_SCTP_PORT": "9",
    "_PORT_80_TCP_START": "tcp://10.96.11.7:80",
    "_NAME": "/connector/segment",
    "_ENV_PATH": "/usr/bin",
}


@pytest.mark.parametrize(
    "service",
    [
        "SEGMENT",
        "BEAMER",
        "CONNECTOR",
        "BEAMER_SEGMENT",
        "SEGMENT_PROXY",
        "BEAMER_API",
        "SEGMENT_WRITE",
        "SEGMENT_REGION",
        "BEAMER_API_KEY",
        "CONNECTOR_1",
    ],
)
def test_what_kubernetes_and_docker_set_for_a_service_is_left_alone(service: str) -> None:
    links = {f"{service}{end}": value for end, value in LINKS.items()}
    assert load({**KEYS, **links}).unused == ()
    text = refusal({**KEYS, **links, "BEAMER_REGION": "eu"})
    assert "BEAMER_REGION is not a setting." in text
    assert "problems" not in text


def test_what_shells_and_completion_set_is_not_ours() -> None:
    other = dict.fromkeys(
        ("_BEAMER_SEGMENT_COMPLETE", "AIRFLOW_VAR_BEAMER_SEGMENT_BIN", "BEAMER", "LOGS"), "x"
    )
    assert load({**KEYS, **other}).unused == ()


# --- secrets from files --------------------------------------------------------------------------------


def test_secrets_from_files_lose_their_line_end(tmp_path: Path) -> None:
    api, write_key = write(tmp_path / "a", "b_secret1=\r\n"), write(tmp_path / "w", "wk_secret2\n")
    database = write(tmp_path / "d", "postgresql://u:p@h/d\n")
    settings = load(
        {
            "BEAMER_API_KEY_FILE": str(api),
            "SEGMENT_WRITE_KEY_FILE": str(write_key),
            "DATABASE_URL_FILE": str(database),
        }
    )
    found = settings.connection()
    assert found.api_key is not None
    assert found.api_key.get_secret_value() == "b_secret1="
    assert settings.database_url == "postgresql://u:p@h/d"
    assert sources(settings)["BEAMER_API_KEY"] == str(api)


def test_a_secret_given_twice(tmp_path: Path, env_file: Path) -> None:
    file = write(tmp_path / "a", "b_other1")
    text = refusal({**KEYS, "BEAMER_API_KEY_FILE": str(file)})
    assert "BEAMER_API_KEY and BEAMER_API_KEY_FILE are both set." in text
    write(env_file, "BEAMER_API_KEY_FILE=/nowhere\n", 0o600)
    assert load(KEYS, env_file=env_file).connection().api_key is not None, "the environment wins, as ever"


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), ("", "is empty"), ("\n", "is empty")])
def test_secret_files_that_give_nothing(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    text = refusal({"SEGMENT_WRITE_KEY": "wk-for-tests", "BEAMER_API_KEY_FILE": str(file)})
    assert f"BEAMER_API_KEY_FILE: the file {file}" in text
    assert says in text


@pytest.mark.parametrize(
    "key",
    [
        "b_Sl9secretkey==",
        "b_abcdefghijkl/mnopqrstuvwxyz0123456789=",
        "/b_abcdefghijklmnopqrstuvwxyz0123456789=",
        "/q1w2e3r4t5y6u7i8o9p0",
        "q1w2e3r4t5y6u7i8o9p0q1w2e3r4t5y6",
        "short-key",
        "postgresql://u:secret123@h/d",
        "./q1w2e3r4t5y6u7i8o9p0",
        "/run/q1w2e3r4t5y6u7i8o9p0/x",
    ],
)
@pytest.mark.parametrize("name", ["BEAMER_API_KEY_FILE", "SEGMENT_WRITE_KEY_FILE", "DATABASE_URL_FILE"])
def test_a_key_in_place_of_the_path_of_its_file_is_not_shown(name: str, key: str) -> None:
    text = refusal({name: key})
    assert f"{name}: the file that it names cannot be read" in text or "a value of" in text
    for part in [each for each in re.split(r"[/:@]", key) if len(each) > 5 and each != "postgresql"]:
        assert part not in text


@pytest.mark.parametrize(
    "path", ["/run/secrets/beamer_api_key", "secrets/key.txt", "~/none/beamer.key", "/nowhere/key"]
)
def test_a_path_that_is_one_is_shown(path: str) -> None:
    assert path.removeprefix("~") in refusal({**KEYS, "DATABASE_URL_FILE": path})


def test_a_directory_or_binary_in_place_of_a_secret_file(tmp_path: Path) -> None:
    assert "cannot be read" in refusal({**KEYS, "DATABASE_URL_FILE": str(tmp_path)})
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refusal({**KEYS, "DATABASE_URL_FILE": str(tmp_path / "b")})


# --- the env file ---------------------------------------------------------------------------------------


def test_the_env_files_format(env_file: Path) -> None:
    text = """\ufeff# a comment
export BEAMER_API_KEY='b_$HOME${X}#='   # not a part of it
SEGMENT_WRITE_KEY="wk_1"

BEAMER_STREAMS = nps, comments # two
SEGMENT_INTEGRATIONS='{"All": true}'
LOG_LEVEL=
"""
    write(env_file, text, 0o600)
    found = load({}, env_file=env_file).connection()
    assert found.api_key is not None
    assert found.api_key.get_secret_value() == "b_$HOME${X}#="
    assert found.streams == ("comments", "nps")
    assert found.integrations == {"All": True}


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_an_env_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = write(tmp_path / "my keys.env", "BEAMER_API_KEY=b_secret99\n", mode)
    text = refusal({}, file)
    assert f"Run: chmod 600 '{file}'" in text
    assert "is not set" not in text, "what follows from it only confuses"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("BEAMER_STREEMS=nps", "BEAMER_STREEMS is not a setting. Did you mean BEAMER_STREAMS?"),
        ("HTTPS_PROXY=http://x", "HTTPS_PROXY is not a setting. An env file holds this program's own"),
        ("BEAMER_PLAN", "line 2: this is not KEY=VALUE"),
        ("BEAMER_PLAN='free", "line 2: this is not KEY=VALUE"),
        ("LOG_LEVEL=info\nLOG_LEVEL=debug", "line 3: LOG_LEVEL is set a second time"),
        ("b_Sl9secretkey==", "a name is not a setting"),
        ("b_Sl9secretkey", "line 2: this is not KEY=VALUE"),
    ],
)
def test_bad_lines_of_an_env_file(env_file: Path, line: str, says: str) -> None:
    write(env_file, f"# keys\n{line}\n", 0o600)
    text = refusal(KEYS, env_file)
    assert says in text
    assert "secretkey" not in text


def test_an_env_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refusal(KEYS, tmp_path / "none.env")


# --- TOML ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = \n", "is not valid TOML: look at line 1, column 5"),
        ('streems = ["nps"]', "'streems' is not a setting. Did you mean streams?"),
        ("streams = []", "names no stream"),
        ("streams = [1]", "not a list of words"),
        ("monthly_requests = true", "true or false, not a number"),
        ('api_key = "b_secret123"', 'Name a variable instead: api_key_env = "BEAMER_API_KEY"'),
        ('database_url = "postgresql://u:secret123@h/d"', "database_url_env"),
        ('api_key_env = "A"\napi_key_file = "/a"', "api_key is set twice"),
        ("connections = 1", "Write [[connections]]"),
        ("[connections]\nname = 'x'", "Write [[connections]]"),
        ("[[connections]]\ntraits = 'all'", "[[connections]] number 1 has no name"),
        ("[[connections]]\nname = 'a-b'", "'a-b' is not a valid name. Give 1 to 40"),
        ("[[connections]]\nname = 'a'\nlog_level = 'info'", "Put it above the tables"),
        ("[[connections]]\nname = 'a'\ndatabase_url_env = 'X'", "is not a setting"),
        ("[[connections]]\nname = 'a'\n[[connections]]\nname = 'a'", "Two connections are called 'a'"),
        (
            "[[connections]]\nname = 'a'\nplan = 'fre'",
            "plan of [[connections]] number 1 ('a') in ",
        ),
        (
            "[[connections]]\nname = 'a'\napi_key = 'b_secret123'",
            "api_key of [[connections]] number 1 ('a')",
        ),
        ("integrations = {x = 2024-01-01}", "not a JSON object"),
        ("start_date = 10:00:00", "is not a date"),
    ],
)
def test_bad_toml(tmp_path: Path, text: str, says: str) -> None:
    found = refusal(KEYS, config_file=write(tmp_path / "c.toml", text))
    assert says in found
    assert "c.toml" in found or "connections are called" in found
    assert "secret123" not in found


def test_toml_values_of_every_kind(tmp_path: Path) -> None:
    text = """
start_date = 2024-01-01
streams = ["nps"]
lookback = 3600
startup_share = 0.3
max_age = 7200
first_page = 0
ignore_filters = false
reserve = 10
database_url = "sqlite:////var/x.sqlite"
integrations = { All = false }
"""
    settings = load(KEYS, config_file=write(tmp_path / "c.toml", text))
    found = settings.connection()
    assert found.start_date is not None
    assert found.start_date.isoformat() == "2024-01-01T00:00:00+00:00"
    assert found.lookback.total_seconds() == 3600
    assert found.max_age.total_seconds() == 7200
    assert found.startup_share == 0.3
    assert found.first_page == 0
    assert found.ignore_filters is False
    assert found.reserved == 10
    assert settings.database_url == "sqlite:////var/x.sqlite"


TWO = """
write_key_env = "SHARED_WRITE_KEY"
traits = "email"
[[connections]]
name = "a"
api_key_env = "KEY_A"
streams = ["nps"]
[[connections]]
name = "b"
api_key_file = "b.key"
plan = "starter"
"""


def test_several_connections(tmp_path: Path) -> None:
    write(tmp_path / "b.key", "b_of-b\n")
    environ = {
        "KEY_A": "b_of-a",
        "SHARED_WRITE_KEY": "wk",
        "BEAMER_STREAMS": "comments",
        "BEAMER_TRAITS": "all",
        "BEAMER_API_KEY": "b_unused",
        "BEAMER_API_KEY_EU": "of another configuration file",
        "BEAMER_ACCOUNT": "unused",
    }
    settings = load(environ, config_file=write(tmp_path / "c.toml", TWO))
    a, b = settings.connections
    assert (a.streams, b.streams) == (("nps",), ("comments",)), "a table's own key before a variable"
    assert (a.traits, b.traits) == ("all", "all"), "a variable before what stands above the tables"
    assert (a.account, b.account) == (None, None)
    keys = [c.api_key.get_secret_value() for c in settings.connections if c.api_key]
    assert keys == ["b_of-a", "b_of-b"]
    assert settings.unused == ("BEAMER_API_KEY_EU", "BEAMER_ACCOUNT", "BEAMER_API_KEY")
    where = sources(settings)
    assert where["a.api_key"] == "environment"
    assert where["b.api_key"] == str(tmp_path / "b.key")


def test_named_variables_may_stand_in_the_env_file(tmp_path: Path, env_file: Path) -> None:
    write(tmp_path / "b.key", "b_of-b\n")
    write(env_file, "KEY_A=b_of-a\nSHARED_WRITE_KEY=wk\n", 0o600)
    settings = load({}, env_file=env_file, config_file=write(tmp_path / "c.toml", TWO))
    assert sources(settings)["a.api_key"] == "env file"


def test_named_secrets_that_are_not_there(tmp_path: Path) -> None:
    text = refusal({}, config_file=write(tmp_path / "c.toml", TWO))
    assert "The variable KEY_A is not set, but is named by api_key_env of [[connections]] number 1" in text
    assert "the file 'b.key' cannot be read: No such file" in text


@pytest.mark.parametrize("key", ["api_key_env", "api_key_file"])
def test_a_key_in_place_of_its_whereabouts_is_not_repeated(tmp_path: Path, key: str) -> None:
    secret = "b_" + "0123456789abcdefghijklmnop="
    toml = write(tmp_path / "c.toml", f'[[connections]]\nname = "a"\n{key} = "{secret}"\n')
    assert secret not in refusal({"b_0123456789abcdefghijklmno": "x"}, config_file=toml)
    assert secret not in refusal({"BEAMER_API_KEY_FILE": secret})


def test_a_directory_is_one_configuration(tmp_path: Path) -> None:
    write(tmp_path / "00.toml", 'write_key_env = "W"\nlog_level = "debug"\n')
    write(tmp_path / "a.toml", '[[connections]]\nname = "a"\napi_key_env = "A"\n')
    write(tmp_path / "b.toml", '[[connections]]\nname = "b"\napi_key_env = "B"\n')
    write(tmp_path / "notes.txt", "not read")
    environ = {"W": "wk", "A": "b_a", "B": "b_b", "CONNECTOR_CONFIG": str(tmp_path)}
    settings = load(environ)
    assert [connection.name for connection in settings.connections] == ["a", "b"]
    assert settings.log_level == "DEBUG"
    write(tmp_path / "c.toml", 'log_level = "info"\n[[connections]]\nname = "a"\napi_key_env = "A"\n')
    text = refusal(environ)
    assert "Two connections are called 'a'" in text
    assert f"log_level in {tmp_path / 'c.toml'} is also set in {tmp_path / '00.toml'}" in text


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    assert "has no *.toml file" in refusal(KEYS, config_file=tmp_path)
    assert "No such file" in refusal({**KEYS, "CONNECTOR_CONFIG": str(tmp_path / "x.toml")})


def test_paths_that_no_file_can_have(tmp_path: Path) -> None:
    assert "cannot be read" in refusal({**KEYS, "CONNECTOR_CONFIG": "x" * 5000})
    assert "cannot be read" in refusal({**KEYS, "CONNECTOR_CONFIG": "~nobody-at-all/c.toml"})
    toml = write(tmp_path / "c.toml", 'database_url_file = "a\\u0000b"\n')
    assert "cannot be read" in refusal(KEYS, config_file=toml)


@pytest.mark.parametrize(
    ("differs", "named"),
    [
        ('plan = "starter"', "plan, monthly limit"),
        ("monthly_requests = 5000", "monthly limit"),
        ("requests_per_second = 5", "rate"),
        ("reserve = 10", "reserve"),
        ("period_day = 3", "period day"),
        ('startup_share = "50%"', "start-up share"),
    ],
)
def test_connections_of_one_account_agree_on_its_quota(tmp_path: Path, differs: str, named: str) -> None:
    text = """
write_key_env = "W"
[[connections]]
name = "a"
account = "acme"
api_key_env = "A"
[[connections]]
name = "b"
account = "acme"
api_key_env = "B"
{differs}
"""
    text = text.replace("{differs}", differs)
    found = refusal({"W": "wk", "A": "b_a", "B": "b_b"}, config_file=write(tmp_path / "c.toml", text))
    assert f"'a' and 'b' share a Beamer account, but differ in: {named}. Give both the same" in found


@pytest.mark.parametrize(
    ("of_a", "of_b", "refused"),
    [
        ("", "", True),
        ('account = "acme"', "", True),
        ("", 'account = "acme"', True),
        # Whoever says so knows better, or tries something out.
        ('account = "acme"', 'account = "other"', False),
        ("", 'base_url = "http://127.0.0.1:9/v0"', False),
    ],
)
def test_one_key_is_one_account(tmp_path: Path, of_a: str, of_b: str, refused: bool) -> None:
    table = '[[connections]]\nname = "{}"\napi_key_env = "K"\nwrite_key_env = "{}"\n{}\n{}\n'
    text = table.format("a", "W", of_a, "period_day = 3") + table.format("b", "X", of_b, "")
    file, keys = write(tmp_path / "c.toml", text), {"K": "b_k", "W": "w_a", "X": "w_b"}
    if refused:
        assert "'a' and 'b' share a Beamer account" in refusal(keys, config_file=file)
    else:
        assert len(load(keys, config_file=file).connections) == 2


def test_choosing_a_connection(tmp_path: Path) -> None:
    write(tmp_path / "b.key", "b_of-b\n")
    settings = load({"KEY_A": "x", "SHARED_WRITE_KEY": "y"}, config_file=write(tmp_path / "c.toml", TWO))
    assert settings.connection("b").name == "b"
    assert load(KEYS).connection(None).name == "default"
    with pytest.raises(ConfigurationError, match="There are 2 connections: a, b"):
        settings.connection(None)
    with pytest.raises(ConfigurationError, match="did you mean 'default'"):
        load(KEYS).connection("defalt")


@pytest.mark.parametrize(
    ("second", "refused"),
    [
        ("", True),
        ('streams = ["nps", "posts"]', True),
        ('streams = ["comments"]', False),
        ('write_key_env = "KEY_C"', False),
        ('api_key_env = "KEY_C"', False),
    ],
)
def test_two_connections_that_would_send_the_same_are_refused(
    tmp_path: Path, second: str, refused: bool
) -> None:
    keys = {"KEY_A": "key-of-beamer", "KEY_B": "key-of-segment", "KEY_C": "another-key"}
    given = 'api_key_env = "KEY_A"\nwrite_key_env = "KEY_B"\n'
    own = "\n".join(line for line in given.splitlines() if line.split(" ")[0] not in second)
    file = tmp_path / "two.toml"
    file.write_text(
        f'[[connections]]\nname = "a"\nstreams = ["nps"]\n{given}\n'
        f'[[connections]]\nname = "b"\n{own}\n{second}\n'
    )
    if refused:
        with pytest.raises(ConfigurationError, match="everything would arrive twice"):
            load(keys, config_file=file)
    else:
        assert len(load(keys, config_file=file).connections) == 2
