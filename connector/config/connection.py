"""One connection: a Beamer account read into a Segment source."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, model_validator

from connector.config import values
from connector.config.addresses import REGIONS
from connector.config.setting import NAME_FORM, Configured, Duration, Lower, Name, Number, Setting
from connector.config.values import STREAMS, Reserve
from connector.domain.plans import ASSUMED, PLANS, Plan

_DATE_FORM = "2024-01-01 or 2024-01-01T09:30:00+02:00 (UTC without a zone)"
_DURATION_FORM = "a duration: 15m, 72h, 30d, PT15M or seconds; 0 = off"
_YES_NO = "true or false"

_Key = Annotated[SecretStr, BeforeValidator(values.key)]


class Connection(Configured):
    """One Beamer account read into one Segment source."""

    name: Name = "default"
    api_key: Annotated[
        _Key | None, Setting("BEAMER_API_KEY", "text", "Beamer's API key (Settings > API).", secret=True)
    ] = None
    write_key: Annotated[
        _Key | None,
        Setting("SEGMENT_WRITE_KEY", "text", "The write key of the Segment source.", secret=True),
    ] = None
    plan: Annotated[
        Plan,
        BeforeValidator(values.plan),
        Setting("BEAMER_PLAN", f"one of {', '.join(PLANS)}", "Sets the monthly limit and the rate."),
    ] = ASSUMED
    monthly_requests: Annotated[
        int | Literal["none"] | None,
        BeforeValidator(values.number_or_none),
        Setting("BEAMER_MONTHLY_REQUESTS", "a number above 0, or none", "Overrides the plan's limit."),
    ] = None
    requests_per_second: Annotated[
        int | None,
        Number,
        Field(ge=1, le=1_000),
        Setting("BEAMER_REQUESTS_PER_SECOND", "a number from 1 to 1000", "Overrides the plan's rate."),
    ] = None
    reserve: Annotated[
        Reserve,
        BeforeValidator(values.reserve),
        Setting(
            "BEAMER_RESERVE",
            "a share such as 10%, or a number of requests",
            "The part of the monthly limit that is kept for people and other tools on the account.",
        ),
    ] = Reserve(share=0.05)
    period_day: Annotated[
        int | None,
        Number,
        Field(ge=1, le=31),
        Setting(
            "BEAMER_PERIOD_DAY",
            "a day of the month, 1 to 31",
            "The day on which Beamer's month begins; without it, no 31 days in a row exceed the limit.",
        ),
    ] = None
    startup_share: Annotated[
        float,
        BeforeValidator(values.share),
        Setting(
            "BEAMER_STARTUP_SHARE",
            "a share such as 20% or 0.2",
            "The share of the month's remaining requests that a new account may use at once.",
        ),
    ] = 0.1
    overdraw: Annotated[
        bool,
        Setting("BEAMER_OVERDRAW", _YES_NO, "Allows requests beyond the limit; Beamer may bill them."),
    ] = False
    start_date: Annotated[
        datetime | None,
        BeforeValidator(values.moment),
        Setting(
            "BEAMER_START_DATE",
            _DATE_FORM,
            "The first sync sends rows from this date on; without it, rows of the 30 days before the sync.",
        ),
    ] = None
    streams: Annotated[
        tuple[str, ...],
        BeforeValidator(values.streams),
        Setting(
            "BEAMER_STREAMS",
            f"a list of {', '.join(STREAMS)}",
            "The streams to read; a stream that is not listed costs no request.",
        ),
    ] = STREAMS
    account: Annotated[
        Name | None,
        Setting(
            "BEAMER_ACCOUNT",
            NAME_FORM,
            "The account's name in message ids and the ledger, fixed at the first sync; by default a digest.",
        ),
    ] = None
    destination: Annotated[
        Name | None,
        Setting(
            "SEGMENT_DESTINATION",
            NAME_FORM,
            "The Segment source's name in message ids; by default a digest of its write key.",
        ),
    ] = None
    region: Annotated[
        Literal["us", "eu"],
        Lower,
        Setting("SEGMENT_REGION", "us or eu", "The workspace's region; a wrong region loses events."),
    ] = "us"
    segment_host: Annotated[
        str | None,
        BeforeValidator(values.host),
        Setting(
            "SEGMENT_HOST",
            "a host, with or without scheme, final slash and /v1; https unless on this machine",
            "Sends events to another host than the region's own, for example to a proxy.",
        ),
    ] = None
    base_url: Annotated[
        str,
        BeforeValidator(values.url),
        Setting("BEAMER_BASE_URL", "an https:// address; http:// on this machine only", "The Beamer API."),
    ] = "https://api.getbeamer.com/v0"
    anonymous: Annotated[
        Literal["hold", "shared", "send"],
        Lower,
        Setting(
            "BEAMER_ANONYMOUS",
            "hold, shared or send",
            "Rows of people without a user id: excluded, sent under one shared id, or each under its own.",
        ),
    ] = "hold"
    team_comments: Annotated[
        bool,
        Setting(
            "BEAMER_TEAM_COMMENTS", _YES_NO, "Also sends the team's own, invisible and automatic comments."
        ),
    ] = False
    traits: Annotated[
        Literal["none", "email", "all"],
        Lower,
        Setting("BEAMER_TRAITS", "none, email or all", "The personal data that goes into context.traits."),
    ] = "none"
    trait_attributes: Annotated[
        tuple[str, ...],
        BeforeValidator(values.words),
        Setting("BEAMER_TRAIT_ATTRIBUTES", "a list of names", "Custom attributes for context.traits."),
    ] = ()
    ref_url: Annotated[
        Literal["bare", "full"],
        Lower,
        Setting("BEAMER_REF_URL", "bare or full", "An NPS response's page: without its query, or full."),
    ] = "bare"
    texts: Annotated[
        Literal["full", "short", "none"],
        Lower,
        Setting(
            "BEAMER_TEXTS",
            "full, short or none",
            "Texts of users (comments, answers, titles of feature requests): in full, their first 140 "
            "characters, or none.",
        ),
    ] = "full"
    nps_settle: Annotated[
        Duration,
        Setting(
            "BEAMER_NPS_SETTLE",
            _DURATION_FORM,
            "How long an NPS response without text waits, because the user may still be typing.",
        ),
    ] = timedelta(minutes=15)
    lookback: Annotated[
        Duration,
        Setting("BEAMER_LOOKBACK", _DURATION_FORM, "How far before the newest known row each pass starts."),
    ] = timedelta(hours=72)
    max_age: Annotated[
        Duration,
        AfterValidator(values.an_hour_or_more),
        Setting(
            "BEAMER_MAX_AGE",
            "a duration of at least an hour: 12h, 7d, PT36H or seconds",
            "Each post and request is checked at least this often, as far as the request budget allows.",
        ),
    ] = timedelta(days=7)
    first_page: Annotated[
        Literal["auto", 0, 1],
        BeforeValidator(values.first_page),
        Setting("BEAMER_FIRST_PAGE", "auto, 0 or 1", "The number of the API's first page; auto detects it."),
    ] = "auto"
    ignore_filters: Annotated[
        Literal["auto"] | bool,
        Lower,
        Setting(
            "BEAMER_IGNORE_FILTERS",
            "auto, true or false",
            "Also reads posts with a segmentation filter, if the key has the permission; auto tries it.",
        ),
    ] = "auto"
    metrics: Annotated[
        bool, Setting("BEAMER_METRICS", _YES_NO, "Sends Post Metrics Updated, at most once per post and day.")
    ] = False
    sync_event: Annotated[
        bool,
        Setting(
            "BEAMER_SYNC_EVENT",
            _YES_NO,
            "Sends Beamer Sync Completed, at most once an hour, as proof that syncs run.",
        ),
    ] = False
    integrations: Annotated[
        dict[str, Any] | None,
        BeforeValidator(values.json_object),
        Setting(
            "SEGMENT_INTEGRATIONS",
            'a JSON object such as {"All": true, "Mixpanel": false}',
            "The destinations in Segment that receive the events.",
        ),
    ] = None
    backfill_integrations: Annotated[
        dict[str, Any] | None,
        BeforeValidator(values.json_object),
        Setting(
            "SEGMENT_BACKFILL_INTEGRATIONS",
            'a JSON object such as {"All": false, "Amplitude": true}',
            "The destinations that receive history; not every destination accepts old data.",
        ),
    ] = None

    _same_key: tuple[tuple[str, str | None], ...] = PrivateAttr(default=())

    @property
    def same_key(self) -> tuple[tuple[str, str | None], ...]:
        """The other connections with this one's key, by name, with their account's name where it is set."""
        return self._same_key

    def meet(self, others: Iterable["Connection"]) -> None:
        """Find out which of all connections have the same key: it is the same Beamer account."""
        key = self.api_key and (self.api_key, self.base_url)
        self._same_key = tuple(
            (other.name, other.account)
            for other in others
            if key and other.name != self.name and (other.api_key, other.base_url) == key
        )

    @property
    def limit(self) -> Plan:
        """The plan as it counts here, overrides applied."""
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
        """Return the limit in a sentence, and its source."""
        limit = self.limit
        monthly = limit.monthly_requests
        month = "no monthly limit" if monthly is None else f"{monthly:,} requests a month"
        return f"plan {limit.name}: {month}, {limit.requests_per_second} a second ({self._limit_reason()})"

    def _limit_reason(self) -> str:
        if self.monthly_requests is not None:
            return "the monthly limit is set by BEAMER_MONTHLY_REQUESTS"
        differ = "published figures differ, see README"
        if "plan" not in self.model_fields_set:
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
                f"BEAMER_RESERVE keeps {self.reserved:,} of {monthly:,} requests a month and leaves none."
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
