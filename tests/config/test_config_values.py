"""Each setting's forms, good and bad, through `load`."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as configure
from hypothesis import strategies as st

from connector.config import STREAMS, Connection, Reserve, load, values
from connector.domain.budget import PLANS
from connector.errors import ConfigurationError, Exit

KEYS = {"BEAMER_API_KEY": "b_key-for-tests=", "SEGMENT_WRITE_KEY": "wk-for-tests"}
DAY = datetime(2024, 1, 1, tzinfo=UTC)


def connection(**environ: str) -> Connection:
    return load({**KEYS, **environ}).connection()


def refusal(environ: Mapping[str, str]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load({**KEYS, **environ})
    assert caught.value.exit is Exit.CONFIGURATION
    assert caught.value.what
    assert caught.value.means
    assert caught.value.todo
    return caught.value


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("BEAMER_LOOKBACK", "15m", "lookback", timedelta(minutes=15)),
        ("BEAMER_LOOKBACK", "72h", "lookback", timedelta(hours=72)),
        ("BEAMER_LOOKBACK", "30d", "lookback", timedelta(days=30)),
        ("BEAMER_LOOKBACK", "1h30m", "lookback", timedelta(minutes=90)),
        ("BEAMER_LOOKBACK", "90", "lookback", timedelta(seconds=90)),
        ("BEAMER_LOOKBACK", "PT15M", "lookback", timedelta(minutes=15)),
        ("BEAMER_LOOKBACK", "p1d", "lookback", timedelta(days=1)),
        ("BEAMER_NPS_SETTLE", "0", "nps_settle", timedelta(0)),
        ("BEAMER_START_DATE", "2024-01-01", "start_date", DAY),
        ("BEAMER_START_DATE", "2024-01-01T00:00:00", "start_date", DAY),
        ("BEAMER_START_DATE", "2024-01-01T00:00:00Z", "start_date", DAY),
        ("BEAMER_START_DATE", "2024-01-01T02:00:00+02:00", "start_date", DAY),
        ("BEAMER_STREAMS", "nps, comments", "streams", ("comments", "nps")),
        ("BEAMER_STREAMS", "nps,nps,", "streams", ("nps",)),
        ("BEAMER_PLAN", "Starter-2026", "plan", PLANS["starter-2026"]),
        ("BEAMER_MONTHLY_REQUESTS", "5,000", "monthly_requests", 5000),
        ("BEAMER_MONTHLY_REQUESTS", "None", "monthly_requests", "none"),
        ("BEAMER_REQUESTS_PER_SECOND", "10", "requests_per_second", 10),
        ("BEAMER_RESERVE", "10%", "reserve", Reserve(share=0.1)),
        ("BEAMER_RESERVE", "50", "reserve", Reserve(requests=50)),
        ("BEAMER_PERIOD_DAY", "31", "period_day", 31),
        ("BEAMER_STARTUP_SHARE", "0.25", "startup_share", 0.25),
        ("BEAMER_STARTUP_SHARE", "25%", "startup_share", 0.25),
        ("BEAMER_STARTUP_SHARE", "12.5 %", "startup_share", 0.125),
        ("BEAMER_STARTUP_SHARE", "0", "startup_share", 0.0),
        ("BEAMER_STARTUP_SHARE", "1", "startup_share", 1.0),
        ("BEAMER_STARTUP_SHARE", "100%", "startup_share", 1.0),
        ("BEAMER_WEIGHTS", "nps=5, reactions=0.2", "weights", {"nps": 5.0, "reactions": 0.2}),
        ("BEAMER_WEIGHTS", " nps = 10 ", "weights", {"nps": 10.0}),
        ("BEAMER_MAX_AGE", "1h", "max_age", timedelta(hours=1)),
        ("BEAMER_MAX_AGE", "PT36H", "max_age", timedelta(hours=36)),
        ("BEAMER_OVERDRAW", "yes", "overdraw", True),
        ("BEAMER_TEAM_COMMENTS", "1", "team_comments", True),
        ("BEAMER_METRICS", "true", "metrics", True),
        ("BEAMER_IDENTIFY", "true", "identify", True),
        ("BEAMER_ANONYMOUS", "Shared", "anonymous", "shared"),
        ("BEAMER_TRAITS", "all", "traits", "all"),
        ("BEAMER_GROUP_ATTRIBUTE", " company id ", "group_attribute", "company id"),
        ("BEAMER_TRAIT_ATTRIBUTES", "role, company", "trait_attributes", ("role", "company")),
        ("BEAMER_REF_URL", "full", "ref_url", "full"),
        ("BEAMER_FIRST_PAGE", "auto", "first_page", "auto"),
        ("BEAMER_FIRST_PAGE", "0", "first_page", 0),
        ("BEAMER_FIRST_PAGE", "1", "first_page", 1),
        ("BEAMER_IGNORE_FILTERS", "auto", "ignore_filters", "auto"),
        ("BEAMER_IGNORE_FILTERS", "true", "ignore_filters", True),
        ("BEAMER_IGNORE_FILTERS", "0", "ignore_filters", False),
        ("BEAMER_ACCOUNT", "acme.eu_1", "account", "acme.eu_1"),
        ("SEGMENT_DESTINATION", "prod", "destination", "prod"),
        ("SEGMENT_REGION", "EU", "region", "eu"),
        ("SEGMENT_HOST", "events.example.com/v1/", "segment_host", "events.example.com/v1"),
        ("SEGMENT_HOST", "http://127.0.0.1:8080", "segment_host", "http://127.0.0.1:8080"),
        ("BEAMER_BASE_URL", "https://proxy.example/v0/", "base_url", "https://proxy.example/v0"),
        ("BEAMER_BASE_URL", "http://localhost:9/v0", "base_url", "http://localhost:9/v0"),
        ("BEAMER_BASE_URL", "http://[::1]:9/v0", "base_url", "http://[::1]:9/v0"),
        ("SEGMENT_INTEGRATIONS", '{"All": false}', "integrations", {"All": False}),
    ],
)
def test_good_values(name: str, text: str, field: str, value: Any) -> None:
    found = getattr(connection(**{name: text}), field)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("BEAMER_LOOKBACK", "soon", "'soon' is not a duration"),
        ("BEAMER_LOOKBACK", "-1h", "'-1h' is not a duration"),
        ("BEAMER_LOOKBACK", "99999999999999999d", "outside 0 to 10 years"),
        ("BEAMER_LOOKBACK", "-PT1H", "is not a duration"),
        ("BEAMER_LOOKBACK", "Psomething", "BEAMER_LOOKBACK"),
        ("BEAMER_START_DATE", "01/02/2024", "Give 2024-01-01 or 2024-01-01T09:30:00+02:00"),
        ("BEAMER_START_DATE", "2024-02-30", "'2024-02-30' is not a date"),
        ("BEAMER_START_DATE", "0001-01-01T00:00+14:00", "is not a date"),
        ("BEAMER_STREAMS", "comment,nsp", "'comment' is not a stream; did you mean 'comments'?"),
        ("BEAMER_STREAMS", "comment,nsp", "'nsp' is not a stream; did you mean 'nps'?"),
        ("BEAMER_STREAMS", ",", "names no stream"),
        ("BEAMER_PLAN", "startr", "'startr' is not a plan; did you mean 'starter'?"),
        ("BEAMER_MONTHLY_REQUESTS", "lots", "Give a number above 0, or none"),
        ("BEAMER_MONTHLY_REQUESTS", "0", "must be a number above 0"),
        ("BEAMER_MONTHLY_REQUESTS", "-5", "must be a number above 0"),
        ("BEAMER_REQUESTS_PER_SECOND", "0", "Give a number from 1 to 1000"),
        ("BEAMER_RESERVE", "100%", "neither a share below 100%"),
        ("BEAMER_RESERVE", "1000", "keeps 1,000 of 1,000 requests a month and leaves none"),
        ("BEAMER_PERIOD_DAY", "32", "Give a day of the month"),
        ("BEAMER_STARTUP_SHARE", "20", "'20' is not a share from 0% to 100%"),
        ("BEAMER_STARTUP_SHARE", "101%", "not a share"),
        ("BEAMER_STARTUP_SHARE", "-0.1", "not a share"),
        ("BEAMER_STARTUP_SHARE", "some", "not a share"),
        ("BEAMER_WEIGHTS", "np=5", "nps"),
        ("BEAMER_WEIGHTS", "nps", "the weight of nps is ''"),
        ("BEAMER_WEIGHTS", "nps=0", "not a number above 0"),
        ("BEAMER_WEIGHTS", "nps=-1", "not a number above 0"),
        ("BEAMER_WEIGHTS", "nps=nan", "not a number above 0"),
        ("BEAMER_WEIGHTS", "nps=99999", "below 10000"),
        ("BEAMER_MAX_AGE", "59m", "this is less than an hour"),
        ("BEAMER_MAX_AGE", "9999d", "outside 0 to 10 years"),
        ("BEAMER_METRICS", "maybe", "Give true or false"),
        ("BEAMER_ANONYMOUS", "drop", "Give hold, shared or send"),
        ("BEAMER_FIRST_PAGE", "2", "Give auto, 0 or 1"),
        ("BEAMER_ACCOUNT", "acme-eu", "Give 1 to 40 letters, digits"),
        ("BEAMER_ACCOUNT", "a" * 41, "a value of 41 characters is not a valid name"),
        ("SEGMENT_REGION", "asia", "Give us or eu"),
        ("SEGMENT_HOST", "http://events.example.com", "plain http"),
        ("SEGMENT_HOST", "ftp://events.example.com", "not a host"),
        ("BEAMER_BASE_URL", "http://api.getbeamer.com/v0", "plain http"),
        ("BEAMER_BASE_URL", "http://127.0.0.1@evil.example/v0", "a user name or a password"),
        ("BEAMER_BASE_URL", "http://localhost.evil.example/v0", "plain http"),
        ("BEAMER_BASE_URL", "http://localhost\\@evil.example", "not a web address"),
        ("BEAMER_BASE_URL", "https://u:hunter2pass@x.example", "a user name or a password"),
        ("BEAMER_BASE_URL", "https://x.example:port", "not a web address"),
        ("BEAMER_BASE_URL", "https://x.example/?k=1", "a query"),
        ("BEAMER_BASE_URL", "api.getbeamer.com", "not a web address"),
        ("SEGMENT_INTEGRATIONS", "[1]", "not a JSON object"),
        ("SEGMENT_INTEGRATIONS", '{"a": NaN}', "not a JSON object"),
        ("SEGMENT_INTEGRATIONS", '{"a": "%s"}' % ("x" * 5000), "goes into every message"),
        ("LOG_LEVEL", "loud", "Give debug, info"),
        ("LOG_FORMAT", "xml", "Give auto, console or json"),
        ("CONNECTOR_MAX_WAITING_ROWS", "0", "Give a number above 0"),
        ("BEAMER_GROUP_ATTRIBUTE", "a, b", "this is not a name"),
        ("SEGMENT_EVENTS_PER_SECOND", "0", "Give a number from 1 to 100000, or none"),
        ("SEGMENT_EVENTS_PER_SECOND", "fast", "Give a number from 1 to 100000, or none"),
        ("CONNECTOR_MAX_WAITING_BYTES", "-1", "Give a size such as 200MB"),
        ("BEAMER_API_KEY", "two words", "contains a space"),
        ("BEAMER_API_KEY", "'quoted'", "the quotes became part"),
        ("SEGMENT_WRITE_KEY", "ключ", "contains a space, a line break or a character"),
    ],
)
def test_bad_values_say_what_is_wanted(name: str, text: str, says: str) -> None:
    error = refusal({name: text})
    assert says in str(error)
    assert name in str(error)
    assert "hunter2pass" not in str(error)


@pytest.mark.parametrize(
    ("date", "says"),
    [
        ("1999-12-31", "1999-12-31 is before 2000-01-01"),
        ("2000-01-01", ""),
        ("2024-01-02", ""),
        ("2024-01-02T00:00:01", "2024-01-02 is in the future"),
        ("0001-01-01", "0001-01-01 is before"),
    ],
)
def test_dates_that_nobody_means(date: str, says: str) -> None:
    when = values.moment(date)
    if not says:
        assert values.believable(when, DAY) == when
        return
    with pytest.raises(ValueError, match=says):
        values.believable(when, DAY)


def test_all_problems_come_in_one_error() -> None:
    error = refusal({"BEAMER_PLAN": "x", "BEAMER_TRAITS": "x", "LOG_LEVEL": "x", "BEAMER_NPS_SETLE": "1m"})
    assert "4 problems" in error.what
    for name in ("BEAMER_PLAN", "BEAMER_TRAITS", "LOG_LEVEL", "BEAMER_NPS_SETTLE"):
        assert name in error.what


def test_defaults() -> None:
    found = connection()
    assert found.name == "default"
    assert found.streams == STREAMS
    assert found.nps_settle == timedelta(minutes=15)
    assert found.lookback == timedelta(hours=72)
    assert (found.max_age, found.startup_share) == (timedelta(days=7), 0.1)
    assert found.base_url == "https://api.getbeamer.com/v0"
    assert (found.anonymous, found.traits, found.team_comments, found.metrics) == (
        "hold",
        "none",
        False,
        False,
    )
    assert (found.overdraw, found.period_day, found.start_date) == (False, None, None)


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        (
            {},
            "plan free: 1,000 requests a month, 30 a second "
            "(assumed: BEAMER_PLAN is not set; published figures differ, compare your contract)",
        ),
        (
            {"BEAMER_PLAN": "pro"},
            "plan pro: no monthly limit, 30 a second "
            "(Beamer API reference; published figures differ, compare your contract)",
        ),
        (
            {"BEAMER_PLAN": "starter-2026"},
            "plan starter-2026: 2,000 requests a month, 30 a second (vendor's page, 2026-09; further "
            "requests are billed; published figures differ, compare your contract)",
        ),
        (
            {"BEAMER_MONTHLY_REQUESTS": "5000", "BEAMER_REQUESTS_PER_SECOND": "5"},
            "plan free: 5,000 requests a month, 5 a second "
            "(the monthly limit is set by BEAMER_MONTHLY_REQUESTS)",
        ),
    ],
)
def test_the_limit_says_where_it_comes_from(environ: dict[str, str], text: str) -> None:
    found = connection(**environ)
    assert found.limit_source == text
    # Every summary names the limit, and whether it is only assumed.
    assumed = "; assumed, BEAMER_PLAN is not set" if "assumed" in text else ""
    assert found.limit_text == text.partition(", ")[0] + assumed


def test_the_effective_limit_and_its_reserve() -> None:
    assert connection().limit == PLANS["free"]
    assert connection().reserved == 50
    unlimited = connection(BEAMER_MONTHLY_REQUESTS="none", BEAMER_RESERVE="2000")
    assert unlimited.limit.monthly_requests is None
    assert unlimited.reserved == 0
    assert connection(BEAMER_MONTHLY_REQUESTS="300", BEAMER_RESERVE="10%").reserved == 30


def test_region_and_host_must_agree_where_both_are_said() -> None:
    error = refusal({"SEGMENT_REGION": "us", "SEGMENT_HOST": "https://events.eu1.segmentapis.com"})
    assert "drops the events" in str(error)
    assert connection(SEGMENT_HOST="https://events.eu1.segmentapis.com").segment_host


@configure(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "BEAMER_LOOKBACK",
                "BEAMER_START_DATE",
                "BEAMER_STREAMS",
                "BEAMER_BASE_URL",
                "SEGMENT_HOST",
                "BEAMER_RESERVE",
                "BEAMER_STARTUP_SHARE",
                "BEAMER_MAX_AGE",
                "SEGMENT_INTEGRATIONS",
                "BEAMER_MONTHLY_REQUESTS",
                "CONNECTOR_MAX_WAITING_BYTES",
                "BEAMER_API_KEY",
            ]
        ),
        st.text(),
    )
)
def test_no_text_at_all_ends_in_anything_but_our_error(environ: dict[str, str]) -> None:
    with suppress(ConfigurationError):
        load({**KEYS, **environ})


@pytest.mark.parametrize(("text", "rate"), [(None, 1_000), ("250", 250), ("NONE", "none")])
def test_the_rate_to_segment_is_one_of_the_whole_program(text: str | None, rate: object) -> None:
    environ = {} if text is None else {"SEGMENT_EVENTS_PER_SECOND": text}
    assert load({**KEYS, **environ}).events_per_second == rate
