"""The settings: each declared once, with its environment variable, its form and its purpose."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from connector.config import values
from connector.config.addresses import REGIONS
from connector.config.values import STREAMS, Reserve
from connector.domain.budget import ASSUMED, PLANS, Plan
from connector.errors import ConfigurationError
from connector.text import counted

NAME_FORM = "1 to 40 letters, digits, '_' and '.'"
_DATE_FORM = "2024-01-01 or 2024-01-01T09:30:00+02:00 (UTC without a zone)"
_DURATION_FORM = "a duration: 15m, 72h, 30d, PT15M or seconds; 0 = off"
_YES_NO = "true or false"

_Lower = BeforeValidator(values.lowered)
_Number = BeforeValidator(values.number)
_JsonObject = Annotated[dict[str, Any] | None, BeforeValidator(values.json_object)]
_Key = Annotated[SecretStr, BeforeValidator(values.key)]
_Secrets = Annotated[SecretStr, BeforeValidator(values.webhook_secrets)]
_Name = Annotated[str, BeforeValidator(values.name)]
_Duration = Annotated[timedelta, BeforeValidator(values.duration), AfterValidator(values.sensible_duration)]
_Interval = Annotated[_Duration, AfterValidator(values.a_minute_or_more)]


@dataclass(frozen=True, slots=True)
class Setting:
    """A field's environment variable, the form of its value, and its purpose."""

    environment: str
    form: str
    description: str
    secret: bool = False


def _setting(
    default: object,
    environment: str,
    form: str,
    description: str,
    *,
    secret: bool = False,
    least: int | None = None,
    most: int | None = None,
) -> Any:
    """Declare a field that is a setting; its key in TOML is the field's name."""
    declared = {"setting": Setting(environment, form, description, secret)}
    extra = cast(Any, declared)
    return Field(default, ge=least, le=most, repr=not secret, json_schema_extra=extra)


class Configured(BaseModel):
    """A model with settings that remembers where their values came from."""

    # Pydantic's errors would repeat a refused value, which may be a key.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)
    _holders: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return the settings by field."""
        extras = {key: cast(Any, field.json_schema_extra) for key, field in cls.model_fields.items()}
        return {key: extra["setting"] for key, extra in extras.items() if extra}

    def source(self, key: str) -> str:
        """Return 'default', 'environment', 'env file', or the path of the file with the value."""
        return self._sources.get(key, "default")

    def holder(self, key: str) -> str:
        """Return the variable or the file that holds a secret."""
        return self._holders.get(key) or self.settings()[key].environment

    def remember(self, sources: dict[str, str], holders: dict[str, str]) -> None:
        """Keep where each field came from, for `config show` and for errors."""
        self._sources.update(sources)
        self._holders.update(holders)


class Connection(Configured):
    """One Beamer account that is read into one Segment source."""

    name: _Name = "default"
    api_key: _Key | None = _setting(
        None, "BEAMER_API_KEY", "text", "Beamer's API key (Settings > API).", secret=True
    )
    write_key: _Key | None = _setting(
        None, "SEGMENT_WRITE_KEY", "text", "The write key of the Segment source.", secret=True
    )
    plan: Annotated[Plan, BeforeValidator(values.plan)] = _setting(
        ASSUMED, "BEAMER_PLAN", f"one of {', '.join(PLANS)}", "Sets the monthly limit and the rate."
    )
    monthly_requests: Annotated[int | Literal["none"] | None, BeforeValidator(values.number_or_none)] = (
        _setting(None, "BEAMER_MONTHLY_REQUESTS", "a number above 0, or none", "Overrides the plan's limit.")
    )
    requests_per_second: Annotated[int | None, _Number] = _setting(
        None,
        "BEAMER_REQUESTS_PER_SECOND",
        "a number from 1 to 1000",
        "Overrides the plan's rate.",
        least=1,
        most=1_000,
    )
    reserve: Annotated[Reserve, BeforeValidator(values.reserve)] = _setting(
        Reserve(share=0.05),
        "BEAMER_RESERVE",
        "a share such as 10%, or a number of requests",
        "The part of the monthly limit that is kept for people and other tools on the account.",
    )
    period_day: Annotated[int | None, _Number] = _setting(
        None,
        "BEAMER_PERIOD_DAY",
        "a day of the month, 1 to 31",
        "The day on which Beamer's month begins; without it, no 31 days in a row exceed the limit.",
        least=1,
        most=31,
    )
    startup_share: Annotated[float, BeforeValidator(values.share)] = _setting(
        0.1,
        "BEAMER_STARTUP_SHARE",
        "a share such as 20% or 0.2",
        "The share of the month's remaining requests that a new account may use at once.",
    )
    overdraw: bool = _setting(
        False, "BEAMER_OVERDRAW", _YES_NO, "Allows requests beyond the limit; Beamer may bill them."
    )
    start_date: Annotated[datetime | None, BeforeValidator(values.moment)] = _setting(
        None,
        "BEAMER_START_DATE",
        _DATE_FORM,
        "The first sync sends rows from this date on; without it, rows of the 30 days before the sync.",
    )
    streams: Annotated[tuple[str, ...], BeforeValidator(values.streams)] = _setting(
        STREAMS,
        "BEAMER_STREAMS",
        f"a list of {', '.join(STREAMS)}",
        "The streams to read; a stream that is not listed costs no request.",
    )
    account: _Name | None = _setting(
        None,
        "BEAMER_ACCOUNT",
        NAME_FORM,
        "The account's name in message ids and its budget, fixed at the first sync; by default a digest.",
    )
    destination: _Name | None = _setting(
        None,
        "SEGMENT_DESTINATION",
        NAME_FORM,
        "The Segment source's name in message ids; by default a digest of its write key.",
    )
    region: Annotated[Literal["us", "eu"], _Lower] = _setting(
        "us", "SEGMENT_REGION", "us or eu", "The workspace's region; a wrong region loses events."
    )
    segment_host: Annotated[str | None, BeforeValidator(values.host)] = _setting(
        None,
        "SEGMENT_HOST",
        "a host, with or without scheme, final slash and /v1; https unless on this machine",
        "Sends events to another host than the region's own, for example to a proxy.",
    )
    public_api_token: _Key | None = _setting(
        None,
        "SEGMENT_PUBLIC_API_TOKEN",
        "text",
        "A token of Segment's Public API (Team and Business plans): proves what Segment received.",
        secret=True,
    )
    source_id: Annotated[str | None, BeforeValidator(values.source_id)] = _setting(
        None,
        "SEGMENT_SOURCE_ID",
        "letters, digits, '_' and '-'",
        "The id of the Segment source; without it, the source is found by its write key.",
    )
    public_api_url: Annotated[str | None, BeforeValidator(values.url)] = _setting(
        None,
        "SEGMENT_PUBLIC_API_URL",
        "an https:// address; http:// on this machine only",
        "Another address of the Public API than the region's own, for example of a proxy.",
    )
    base_url: Annotated[str, BeforeValidator(values.url)] = _setting(
        "https://api.getbeamer.com/v0",
        "BEAMER_BASE_URL",
        "an https:// address; http:// on this machine only",
        "The Beamer API.",
    )
    anonymous: Annotated[Literal["hold", "shared", "send"], _Lower] = _setting(
        "hold",
        "BEAMER_ANONYMOUS",
        "hold, shared or send",
        "Rows of people without a user id: excluded, sent under one shared id, or each under its own.",
    )
    team_comments: bool = _setting(
        False, "BEAMER_TEAM_COMMENTS", _YES_NO, "Also sends the team's own, invisible and automatic comments."
    )
    traits: Annotated[Literal["none", "email", "all"], _Lower] = _setting(
        "none", "BEAMER_TRAITS", "none, email or all", "The personal data that goes into context.traits."
    )
    trait_attributes: Annotated[tuple[str, ...], BeforeValidator(values.words)] = _setting(
        (), "BEAMER_TRAIT_ATTRIBUTES", "a list of names", "Custom attributes for context.traits."
    )
    group_attribute: Annotated[str | None, BeforeValidator(values.word)] = _setting(
        None,
        "BEAMER_GROUP_ATTRIBUTE",
        "a name",
        "The custom attribute with the id of a user's company, for context.groupId.",
    )
    ref_url: Annotated[Literal["bare", "full"], _Lower] = _setting(
        "bare", "BEAMER_REF_URL", "bare or full", "An NPS response's page: without its query, or full."
    )
    texts: Annotated[Literal["full", "short", "none"], _Lower] = _setting(
        "full",
        "BEAMER_TEXTS",
        "full, short or none",
        "Texts of users (comments, answers, titles of feature requests): in full, their first 140 "
        "characters, or none.",
    )
    nps_settle: _Duration = _setting(
        timedelta(minutes=15),
        "BEAMER_NPS_SETTLE",
        _DURATION_FORM,
        "How long an NPS response without text waits, because the user may still be typing.",
    )
    lookback: _Duration = _setting(
        timedelta(hours=72),
        "BEAMER_LOOKBACK",
        _DURATION_FORM,
        "How far before the newest known row each pass starts.",
    )
    max_age: Annotated[_Duration, AfterValidator(values.an_hour_or_more)] = _setting(
        timedelta(days=7),
        "BEAMER_MAX_AGE",
        "a duration of at least an hour: 12h, 7d, PT36H or seconds",
        "Each post and request is checked at least this often, as far as the request budget allows.",
    )
    weights: Annotated[dict[str, float], BeforeValidator(values.weights)] = _setting(
        {},
        "BEAMER_WEIGHTS",
        "streams with numbers: nps=5, reactions=0.2",
        "How much the waiting of a stream's rows counts under a monthly limit; 1 for each stream not named.",
    )
    webhook_secret: _Secrets | None = _setting(
        None,
        "BEAMER_WEBHOOK_SECRET",
        "text; several, one for each webhook, are separated by commas",
        "`schedule` accepts Beamer's webhooks with this secret at /webhooks/beamer/CONNECTION.",
        secret=True,
    )
    webhook_share: Annotated[float, BeforeValidator(values.share)] = _setting(
        0.5,
        "BEAMER_WEBHOOK_SHARE",
        "a share such as 50% or 0.5",
        "The share of the available requests that webhooks may use under a monthly limit.",
    )
    first_page: Annotated[Literal["auto", 0, 1], BeforeValidator(values.first_page)] = _setting(
        "auto", "BEAMER_FIRST_PAGE", "auto, 0 or 1", "The number of the API's first page; auto detects it."
    )
    ignore_filters: Annotated[Literal["auto"] | bool, _Lower] = _setting(
        "auto",
        "BEAMER_IGNORE_FILTERS",
        "auto, true or false",
        "Also reads posts with a segmentation filter, if the key has the permission; auto tries it.",
    )
    metrics: bool = _setting(
        False, "BEAMER_METRICS", _YES_NO, "Sends Post Metrics Updated, at most once per post and day."
    )
    sync_event: bool = _setting(
        False,
        "BEAMER_SYNC_EVENT",
        _YES_NO,
        "Sends Beamer Sync Completed, at most once an hour, as proof that syncs run.",
    )
    identify: bool = _setting(
        False,
        "BEAMER_IDENTIFY",
        _YES_NO,
        "Sends identify for users whose language, filter or day of the last visit changed (Scale plan).",
    )
    integrations: _JsonObject = _setting(
        None,
        "SEGMENT_INTEGRATIONS",
        'a JSON object such as {"All": true, "Mixpanel": false}',
        "The destinations in Segment that receive the events.",
    )
    backfill_integrations: _JsonObject = _setting(
        None,
        "SEGMENT_BACKFILL_INTEGRATIONS",
        'a JSON object such as {"All": false, "Amplitude": true}',
        "The destinations that receive history; not every destination accepts old data.",
    )

    _same_key: tuple[tuple[str, str | None], ...] = PrivateAttr(default=())

    @property
    def same_key(self) -> tuple[tuple[str, str | None], ...]:
        """Return the connections with the same key, by name, with their account's name if it is set."""
        return self._same_key

    def meet(self, others: Iterable["Connection"]) -> None:
        """Find the connections with the same key: they belong to the same Beamer account."""
        key = self.api_key and (self.api_key, self.base_url)
        self._same_key = tuple(
            (other.name, other.account)
            for other in others
            if key and other.name != self.name and (other.api_key, other.base_url) == key
        )

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Return the secrets of Beamer's webhooks; without any, webhooks are not accepted."""
        return tuple(self.webhook_secret.get_secret_value().split()) if self.webhook_secret else ()

    @property
    def limit(self) -> Plan:
        """Return the plan with the overrides applied."""
        monthly = self.plan.monthly_requests if self.monthly_requests is None else self.monthly_requests
        return replace(
            self.plan,
            monthly_requests=None if monthly == "none" else monthly,
            requests_per_second=self.requests_per_second or self.plan.requests_per_second,
        )

    @property
    def reserved(self) -> int:
        """Return the reserve of each month, in requests."""
        return self.reserve.of(self.limit.monthly_requests)

    @property
    def limit_text(self) -> str:
        """Return the monthly limit, for summaries, and whether it is assumed."""
        monthly = self.limit.monthly_requests
        month = "no monthly limit" if monthly is None else f"{counted(monthly, 'request')} a month"
        assumed = "; assumed, BEAMER_PLAN is not set" if self._assumed else ""
        return f"plan {self.limit.name}: {month}{assumed}"

    @property
    def limit_source(self) -> str:
        """Return the limit with its rate, and the source of these figures."""
        text = self.limit_text.partition(";")[0]
        return f"{text}, {self.limit.requests_per_second} a second ({self._limit_reason()})"

    @property
    def _assumed(self) -> bool:
        return self.monthly_requests is None and "plan" not in self.model_fields_set

    def _limit_reason(self) -> str:
        if self.monthly_requests is not None:
            return "the monthly limit is set by BEAMER_MONTHLY_REQUESTS"
        differ = "published figures differ, compare your contract"
        if self._assumed:
            return f"assumed: BEAMER_PLAN is not set; {differ}"
        billed = "; further requests are billed" if self.plan.overage_billed else ""
        return f"{self.plan.source}{billed}; {differ}"

    @model_validator(mode="after")
    def _leaves_something(self) -> "Connection":
        monthly = self.limit.monthly_requests
        if monthly is not None and monthly < 1:
            raise ValueError("BEAMER_MONTHLY_REQUESTS must be a number above 0, or none.")
        if monthly is not None and self.reserved >= monthly:
            raise ValueError(
                f"BEAMER_RESERVE keeps {self.reserved:,} of {counted(monthly, 'request')} a month "
                "and leaves none."
            )
        return self

    @model_validator(mode="after")
    def _region_and_host_agree(self) -> "Connection":
        if self.segment_host is None or "region" not in self.model_fields_set:
            return self
        for region, address in REGIONS.items():
            if address.removeprefix("https://") in self.segment_host and region != self.region:
                raise ValueError(
                    f"SEGMENT_HOST is in region {region}, but SEGMENT_REGION is {self.region}. Segment "
                    "answers 200 to a write key of another region and drops the events."
                )
        return self


class Settings(Configured):
    """Everything that was configured."""

    database_url: str | None = _setting(
        None,
        "DATABASE_URL",
        "postgresql://… or sqlite:////absolute/path",
        "The database; by default a SQLite file under $XDG_STATE_HOME.",
        secret=True,  # it may hold a password
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(values.uppered)
    ] = _setting(
        "INFO", "LOG_LEVEL", "debug, info, warning, error or critical", "The lowest level that is logged."
    )
    log_format: Annotated[Literal["auto", "console", "json"], _Lower] = _setting(
        "auto", "LOG_FORMAT", "auto, console or json", "auto: console on a terminal, else JSON."
    )
    max_waiting_rows: Annotated[int, _Number] = _setting(
        100_000,
        "CONNECTOR_MAX_WAITING_ROWS",
        "a number above 0",
        "Reading pauses when this many events wait for Segment.",
        least=1,
    )
    max_waiting_bytes: Annotated[ByteSize, _Number] = _setting(
        ByteSize(200 * 1000 * 1000),
        "CONNECTOR_MAX_WAITING_BYTES",
        "a size such as 200MB",
        "Reading pauses when waiting events take this much space.",
        least=1,
    )
    events_per_second: Annotated[
        Annotated[int, Field(ge=1, le=100_000)] | Literal["none"], BeforeValidator(values.number_or_none)
    ] = _setting(
        1_000,
        "SEGMENT_EVENTS_PER_SECOND",
        "a number from 1 to 100000, or none",
        "The most events a second to Segment, by all runs of this database together.",
    )
    workers: Annotated[int, _Number] = _setting(
        8, "CONNECTOR_WORKERS", "a number from 1 to 64", "How many connections run at once.", least=1, most=64
    )
    interval: _Interval = _setting(
        timedelta(minutes=5),
        "CONNECTOR_INTERVAL",
        "a duration of at least a minute: 90s, 5m, PT5M or seconds",
        "`schedule`: the shortest time between two syncs; without a monthly limit, the usual time.",
    )
    max_interval: _Interval = _setting(
        timedelta(hours=1),
        "CONNECTOR_MAX_INTERVAL",
        "a duration of at least a minute: 30m, 1h, PT1H or seconds",
        "`schedule`: the longest time between two syncs, even if few requests are available.",
    )
    bind: Annotated[str, BeforeValidator(values.address)] = _setting(
        "127.0.0.1:8080",
        "CONNECTOR_BIND",
        "HOST:PORT, or none",
        "Where `schedule` serves status, health and metrics; they name connections, but no person.",
    )
    webhook_bind: Annotated[str | None, BeforeValidator(values.address)] = _setting(
        None,
        "BEAMER_WEBHOOK_BIND",
        "HOST:PORT, or none",
        "Where `schedule` accepts webhooks, and nothing else; without it, where it serves status.",
    )
    ping_url: Annotated[str | None, BeforeValidator(values.secret_url)] = _setting(
        None,
        "CONNECTOR_PING_URL",
        "an https:// address; http:// on this machine only",
        "A dead man's switch: `sync` and `audit` call it after a success, and with /fail after a failure.",
        secret=True,  # whoever has it can keep the switch quiet
    )
    alert_url: Annotated[str | None, BeforeValidator(values.webhook)] = _setting(
        None,
        "CONNECTOR_ALERT_URL",
        "an https:// address; http:// on this machine only",
        "A webhook, such as Slack's: runs post there when a connection's health has changed.",
        secret=True,  # whoever has it can post there
    )
    connections: tuple[Connection, ...] = Field(default_factory=lambda: (Connection(),))
    # Variables with keys or names that no connection of the configuration file uses.
    unused: tuple[str, ...] = ()
    env_file: Path | None = None

    @model_validator(mode="after")
    def _intervals_agree(self) -> "Settings":
        if self.max_interval < self.interval:
            raise ValueError("CONNECTOR_MAX_INTERVAL is shorter than CONNECTOR_INTERVAL.")
        return self

    def connection(self, name: str | None = None, or_else: str = "") -> Connection:
        """Return the connection of that name; without a name, the only one.

        `or_else` is what the command can do instead of choosing one, for the error.
        """
        names = [connection.name for connection in self.connections]
        if name is None and len(names) == 1:
            return self.connections[0]
        if name is None:
            raise ConfigurationError(
                f"There are {counted(len(names), 'connection')}: {', '.join(names)}.",
                todo=f"Choose one with --connection NAME{or_else}.",
            )
        for connection in self.connections:
            if connection.name == name:
                return connection
        raise ConfigurationError(
            f"{values.unknown(name, names, 'connection')}.", todo=f"The connections are: {', '.join(names)}."
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of the connections, for one of `count` processes; `index` counts from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parse `INDEX/COUNT`; raise ValueError with what is wrong."""
        index, slash, count = text.strip().partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()) or len(text) > 20:
            raise ValueError(f"{text!r} is not INDEX/COUNT, such as 0/5.")
        if int(index) >= int(count):
            raise ValueError(f"There is no shard {int(index)} of {int(count)}: they count from 0.")
        return cls(int(index), int(count))

    def holds(self, name: str) -> bool:
        """Return whether a connection belongs to this shard, the same on every machine and for ever."""
        # Python's own hash differs from process to process.
        digest = hashlib.sha256(name.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index
