"""What is shown of the settings, and that no key is ever shown."""

import re
import traceback
from pathlib import Path

import pytest

from connector.config import known_settings, load, redacted
from connector.errors import ConfigurationError

EXAMPLES = Path(__file__).parents[2] / "config"
SECRET = "b_" + "Sup3rS3cretValue"
SETTING_LINE = re.compile(r"^#(?=[A-Za-z_]+ ?=)", re.MULTILINE)


def uncommented(name: str, without: tuple[str, ...]) -> str:
    text = SETTING_LINE.sub("", (EXAMPLES / name).read_text(encoding="utf-8"))
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(without))


def test_a_secret_shows_only_that_it_is_set() -> None:
    environ = {
        "BEAMER_API_KEY": SECRET,
        "SEGMENT_WRITE_KEY": SECRET,
        "DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
    }
    settings = load(environ)
    shown = {item.name: item.value for item in redacted(settings)}
    assert shown["BEAMER_API_KEY"] == shown["SEGMENT_WRITE_KEY"] == shown["DATABASE_URL"] == "set"
    for text in (repr(settings), str(settings), repr(redacted(settings)), repr(settings.connection())):
        assert "Sup3r" not in text


def test_sqlite_places_and_values_show_as_they_could_be_written() -> None:
    environ = {
        "DATABASE_URL": "sqlite:////x.sqlite",
        "BEAMER_STREAMS": "nps,posts",
        "BEAMER_NPS_SETTLE": "0",
        "BEAMER_STARTUP_SHARE": "0.07",
    }
    shown = {item.name: item.value for item in redacted(load(environ, secrets_required=False))}
    assert shown["DATABASE_URL"] == "sqlite:////x.sqlite"
    assert shown["BEAMER_API_KEY"] == "not set"
    assert shown["BEAMER_STREAMS"] == "posts,nps"
    assert (shown["BEAMER_NPS_SETTLE"], shown["BEAMER_LOOKBACK"]) == ("0", "72h")
    assert (shown["BEAMER_STARTUP_SHARE"], shown["BEAMER_MAX_AGE"]) == ("7%", "168h")


@pytest.mark.parametrize("known", known_settings(), ids=lambda known: known.environment)
def test_a_key_in_any_variable_never_reaches_an_error(known: object) -> None:
    environment = str(known[0]) if isinstance(known, tuple) else ""
    base = {"BEAMER_API_KEY": SECRET, "SEGMENT_WRITE_KEY": SECRET, "BEAMER_PLAN": "wrong"}
    for value in (SECRET, f"{SECRET} and more", f'"{SECRET}"', f"https://{SECRET}:x@h", f"\n{SECRET}\n x"):
        with pytest.raises(ConfigurationError) as caught:
            load({**base, environment: value})
        told = (
            "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
        )
        assert "Sup3r" not in told, value


@pytest.mark.parametrize("ending", ["_env", "_file", ""])
def test_a_key_anywhere_in_toml_never_reaches_an_error(tmp_path: Path, ending: str) -> None:
    toml = tmp_path / "c.toml"
    long = SECRET * 3
    toml.write_text(f'[[connections]]\nname = "x"\nplan = "{long}"\nwrite_key{ending} = "{long}"\n')
    with pytest.raises(ConfigurationError) as caught:
        load({}, config_file=toml)
    assert "Sup3r" not in "".join(traceback.format_exception(caught.value))
    toml.write_text(f"api_key = {long}\n")
    with pytest.raises(ConfigurationError) as caught:
        load({}, config_file=toml)
    assert "Sup3r" not in "".join(traceback.format_exception(caught.value))


def test_known_settings_are_complete_and_written_in_the_form_they_ask_for() -> None:
    known = known_settings()
    assert len({item.environment for item in known}) == len(known)
    for item in known:
        assert item.description.endswith(".")
    environ = {
        item.environment: item.default
        for item in known
        if item.default not in ("not set", "") and item.environment != "CONNECTOR_CONFIG"
    }
    assert (
        load(environ, secrets_required=False).connection().limit
        == load({}, secrets_required=False).connection().limit
    )


def test_the_env_example_loads_and_names_every_setting(tmp_path: Path) -> None:
    text = (EXAMPLES / "beamer-segment.env.example").read_text(encoding="utf-8")
    for known in known_settings():
        assert re.search(rf"^#?{known.environment}=", text, re.MULTILINE), known.environment
    for name in ("BEAMER_API_KEY_FILE", "SEGMENT_WRITE_KEY_FILE", "DATABASE_URL_FILE"):
        assert f"#{name}=" in text
    plain, full = tmp_path / "plain.env", tmp_path / "full.env"
    plain.write_text(text, encoding="utf-8")
    files = (
        *("BEAMER_API_KEY_FILE", "SEGMENT_WRITE_KEY_FILE", "DATABASE_URL_FILE", "CONNECTOR_PING_URL_FILE"),
        *("CONNECTOR_ALERT_URL_FILE", "SEGMENT_PUBLIC_API_TOKEN_FILE", "CONNECTOR_CONFIG"),
        "BEAMER_WEBHOOK_SECRET_FILE",
    )
    full.write_text(uncommented("beamer-segment.env.example", files), encoding="utf-8")
    plain.chmod(0o600)
    full.chmod(0o600)
    keys = {"BEAMER_API_KEY": "b_x", "SEGMENT_WRITE_KEY": "wk"}
    load(keys, env_file=plain)
    settings = load(keys, env_file=full)
    assert settings.connection().account == "acme"
    assert {item.source for item in redacted(settings)} == {"environment", "env file"}


def test_the_toml_example_loads_and_names_every_setting(tmp_path: Path) -> None:
    text = (EXAMPLES / "connector.toml.example").read_text(encoding="utf-8")
    keys = [key for known in known_settings() for key in known.toml.split(", ") if key]
    for key in keys:
        assert re.search(rf"^#?{key} = ", text, re.MULTILINE), key
    environ = dict.fromkeys(("SEGMENT_WRITE_KEY", "BEAMER_API_KEY_US", "SEGMENT_WRITE_KEY_US"), "wk")
    for name in ("beamer_api_key_eu", "segment_write_key_eu"):
        (tmp_path / name).write_text("key")
    plain, full = tmp_path / "plain.toml", tmp_path / "full.toml"
    of = ("database_url", "ping_url", "alert_url", "public_api_token", "webhook_secret")
    without = tuple(f"{name}_{kind}" for name in of for kind in ("env", "file"))
    for file, content in ((plain, text), (full, uncommented("connector.toml.example", without))):
        file.write_text(content.replace("/run/secrets", str(tmp_path)), encoding="utf-8")
        settings = load(environ, config_file=file)
        assert [connection.name for connection in settings.connections] == ["us", "eu"]
        assert settings.connection("eu").limit.monthly_requests == 20_000
    assert settings.connection("us").integrations == {"All": True, "Mixpanel": False}
