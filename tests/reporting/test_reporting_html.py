"""The page with charts: what is added up, what is said, and that it is one file that requests nothing."""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.daemon.http import pages
from connector.domain.budget import Limits
from connector.domain.period import day_of
from connector.files import READABLE_BY_ALL, put
from connector.reporting import report_charts as charts
from connector.reporting import report_page as html
from connector.reporting.report_charts import BACKFILL, Days, Spending, added_up, spending
from connector.reporting.report_page import Subject, report_data_of
from connector.state.engine import Database, open_database
from connector.state.ledger import Ledger
from connector.state.runs import RunSummary, runs_since
from tests.browser.planted import planted
from tests.cli.process import Machine, made_up

NOW = datetime(2026, 3, 20, 15, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
FREE = Limits(1_000, 50, 30)
KILOBYTE = 1_000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = open_database(database_url)
    planted(found, NOW)
    yield found
    found.close()


def status(**more: Any) -> dict[str, Any]:
    """What `status --output json` says of a connection on a plan of 1,000, less the reserve."""
    return {
        "connection": "default",
        "health": "healthy",
        "grade": "ok",
        "why": None,
        "todo": None,
        "problems": [],
        "account": "acct.default",
        "limit": "plan free",
        "newest": None,
        "newest_stream": None,
        "newest_delay_seconds": None,
        "last_success": None,
        "seconds_between_syncs": None,
        "requests_used": 200,
        "requests_left": 750,
        "requests_usable": 950,
        "requests_even": 100.0,
        "requests_available": 12.5,
        "requests_per_day": 27.2,
        "requests_again_at": None,
        "requests_since": (NOW - 32 * DAY).replace(hour=0).isoformat(),
        "requests_until": None,
        "outbox": {},
        "waiting": [],
        "excluded": {},
        "at_work": [],
        "streams": [],
        **more,
    }


def stream(name: str, **more: Any) -> dict[str, Any]:
    """What `status --output json` says of a stream."""
    return {
        "stream": name,
        "listed": True,
        "complete_through": (NOW - 2 * MINUTE).isoformat(),
        "newest": None,
        "counts": {},
        "lists_waiting": 0,
        "quarantined": {},
        "counters_trusted": None,
        "trouble": None,
        **more,
    }


# --- from the database ------------------------------------------------------------------------------------


def test_the_pictures_of_a_store(database: Database) -> None:
    balance = Ledger(database, "acct.default", "default", FREE).balance(NOW)
    assert balance.left is not None
    looked = status(
        requests_used=balance.used, requests_left=balance.left, requests_since=balance.since.isoformat()
    )
    (subject,) = report_data_of(database, [looked], NOW)
    found = {chart.name: chart for chart in subject.charts}
    assert list(found) == ["quota", "rows", "delay", "runs", "purposes"]
    assert found["quota"].series[0].values[-1] == balance.left
    spent = found["purposes"]
    assert sum(value or 0 for series in spent.series for value in series.values) == balance.used
    by_name = {series.name: sum(value or 0 for value in series.values) for series in spent.series}
    assert by_name["NPS"] == balance.by_purpose["nps"]
    assert by_name["check"] == balance.by_purpose["check posts"]
    assert subject.audits is not None
    assert subject.audits["comments"].missing >= 4
    begun = [run for run in runs_since(database, "default", NOW - 40 * DAY) if run.started_at < NOW]
    shown = sum(value or 0 for series in found["runs"].series for value in series.values)
    assert shown == sum(run.started_at >= datetime(2026, 2, 19, tzinfo=UTC) for run in begun)


def test_no_picture_before_the_first_run(database: Database) -> None:
    never = status(account=None, requests_left=None)
    assert (
        report_data_of(database, [never], NOW)[0].charts
        == report_data_of(None, [status()], NOW)[0].charts
        == ()
    )
    page = html.page([Subject(never)], NOW)
    assert "Start with <code>beamer-segment sync</code>." in page


def test_it_is_fast_with_ten_thousand_runs(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    planted(database, NOW, every=timedelta(minutes=4.3))
    before = time.process_time()
    found = report_data_of(database, [status()], NOW)
    page = html.page(found, NOW)
    assert time.process_time() - before < 15  # a busy machine takes ten times as long as a quiet one
    database.close()
    assert len(page.encode()) < 400 * KILOBYTE
    runs = next(chart for chart in found[0].charts if chart.name == "runs")
    assert sum(value or 0 for series in runs.series for value in series.values) > 9_500


# --- added up ---------------------------------------------------------------------------------------------


def ran(began: datetime, outcome: str | None = "done", command: str = "sync", **did: Any) -> RunSummary:
    return RunSummary(command, began, began + HOUR if outcome else None, outcome, did)


def test_runs_are_added_up_by_day() -> None:
    past = [
        ran(NOW, rows_new={"nps": 2}, audited={"nps": 3}, missing_found={"nps": 1}),
        ran(NOW - HOUR, "failed", rows_new={"nps": 1, "comments": 4}),
        ran(NOW - DAY, rows_new={"nps": 5}, audited={"nps": 1}),
    ]
    found = added_up(past, NOW, 100)
    today, yesterday = NOW.date(), NOW.date() - DAY
    assert found.rows == {"nps": {today: 3, yesterday: 5}, "comments": {today: 4}}
    assert found.outcomes == {"done": {today: 1, yesterday: 1}, "failed": {today: 1}}
    assert found.audits["nps"] == charts.Audited(4, 1, today)
    assert found.all == [yesterday, today]


def test_what_webhooks_announced_is_shown_with_the_delays() -> None:
    """Only where there are any."""
    assert 'data-picture="hints"' not in html.page([Subject(status(), audits={})], NOW)
    late = {"rows": 2, "longest": 20.0, "up_to": {"60": 2}}
    past = [
        ran(NOW, command="hints", late={**late, "seconds": 30.0}),
        ran(NOW - HOUR, late={**late, "seconds": 36_000.0}),
    ]
    found = added_up(past, NOW, 100)
    delays = {by_hints: each.mean for by_hints, each in found.late_by_hints.items()}
    hints = {"nps": {"received": 3, "received_at": NOW.isoformat(), "confirmed": 2, "waiting": 1}}
    page = html.page([Subject(status(hints=hints), audits={}, delays=delays)], NOW)
    assert "Runs for webhooks read rows after 15 s on average; other runs, rows after 5 h on average." in page
    cells = [f'<td data-column="{name}">{count}</td>' for name, count in {"announced": 3, "found": 2}.items()]
    assert "".join(cells) in page
    assert "other runs, no row." in html.page([Subject(status(hints=hints), audits={})], NOW)


def test_a_backfill_is_a_run_whose_rows_are_not_news() -> None:
    found = added_up([ran(NOW, command=BACKFILL, rows_new={"nps": 900})], NOW, 100)
    assert (found.rows, found.outcomes) == ({}, {"done": {NOW.date(): 1}})


def test_only_the_newest_run_of_a_kind_is_under_way() -> None:
    past = [ran(NOW, None), ran(NOW - HOUR, None), ran(NOW - 2 * HOUR, None, BACKFILL)]
    working = added_up(past, NOW, 100, at_work=["sync"])
    assert {name: count.total() for name, count in working.outcomes.items()} == {"under way": 1, "killed": 2}
    assert added_up(past, NOW, 100).outcomes["killed"].total() == 3


def test_where_runs_were_left_out_their_oldest_day_is_too() -> None:
    past = [ran(NOW - each * 6 * HOUR, rows_new={"nps": 1}) for each in range(10)]
    found = added_up(past, NOW, 10)
    assert found.first == (NOW - 54 * HOUR).date() + DAY
    assert found.rows["nps"].total() == found.outcomes["done"].total() == 7
    assert min(found.rows["nps"]) == found.first


def test_days_to_come_count_for_today() -> None:
    ahead = spending([(day_of(NOW) + 3, "nps", 4), (day_of(NOW), "nps", 1)], NOW)
    assert ahead.on(NOW.date()) == 5
    late = added_up([ran(NOW + 3 * DAY, rows_new={"nps": 2})], NOW, 100)
    assert late.rows["nps"][NOW.date()] == 2


# --- what is said -----------------------------------------------------------------------------------------


def used(**by_day: int) -> Spending:
    """Requests of some days of March."""
    counts = Counter({date(2026, 3, int(day[1:])): requests for day, requests in by_day.items()})
    return Spending(NOW.date(), {"posts": counts})


def test_the_quota_is_reckoned_back_from_what_is_left() -> None:
    month = status(requests_since="2026-03-01T00:00:00+00:00", requests_until="2026-04-01T00:00:00+00:00")
    chart = charts.burn_down(month, used(d5=50, d18=100, d20=50), None)
    left, even = (series.values for series in chart.series)
    assert chart.days[0] == date(2026, 3, 1)
    assert chart.days[-1] == date(2026, 3, 31)
    assert [left[day - 1] for day in (1, 4, 5, 17, 18, 19, 20)] == [950, 950, 900, 900, 800, 800, 750]
    assert set(left[20:]) == {None}
    assert even[0] == pytest.approx(950 * 30 / 31)
    assert even[-1] == 0
    assert chart.caption == (
        "750 of the 950 requests until 2026-04-01 are left. At an even pace 850 would be left: 100 more."
    )


@pytest.mark.parametrize(("began", "first"), [(NOW - 3 * DAY, "2026-03-17"), (NOW - 90 * DAY, "2026-02-16")])
def test_without_a_told_month_it_is_the_31_days_before_or_those_since_the_account_began(
    began: datetime, first: str
) -> None:
    chart = charts.burn_down(status(), used(d18=200), began)
    assert chart.days[0].isoformat() == first
    assert len(chart.days) in (32, 33)
    assert "of 31 days in a row" in chart.caption
    known = [value for value in chart.series[0].values if value is not None]
    assert known[-1] == 750
    assert known[0] == 950


def test_without_a_limit_there_is_no_line_to_keep_to() -> None:
    free = status(requests_left=None, requests_usable=None, requests_used=7)
    chart = charts.burn_down(free, used(d18=7), None)
    assert [series.name for series in chart.series] == ["used"]
    assert "There is no monthly limit; 7 requests" in chart.caption


def test_a_month_that_began_before_the_account_is_drawn_from_the_account_on() -> None:
    month = status(requests_since="2026-03-01T00:00:00+00:00", requests_until="2026-04-01T00:00:00+00:00")
    chart = charts.burn_down(month, used(d18=200), datetime(2026, 3, 17, tzinfo=UTC))
    left, even = (series.values for series in chart.series)
    assert (chart.days[0], chart.days[-1]) == (date(2026, 3, 17), date(2026, 3, 31))
    assert (left[0], left[1]) == (950, 750)
    assert even[0] == pytest.approx(950 * 14 / 31)


def test_a_stream_has_one_colour_and_other_purposes_are_grey() -> None:
    today, yesterday = NOW.date(), NOW.date() - DAY
    days = Days(yesterday, today)
    for name in ("nps", "comments"):
        days.rows[name][today] = 1
    names = ("nps", "check nps", "check posts", "comments", "audit", "elsewhere", "someday")
    chart = charts.purposes(Spending(today, {name: Counter({yesterday: 2}) for name in names}))
    by_name = {series.name: series for series in chart.series}
    assert list(by_name) == ["comments", "NPS", "audit", "check", "elsewhere", "someday"]
    assert by_name["check"].values == [4, 0]
    colours = {series.name: series.colour for series in charts.rows(days).series}
    assert colours == {name: by_name[name].colour for name in ("comments", "NPS")}
    assert len({*charts.COLOURS.values()}) == len(charts.STREAMS)
    assert by_name["someday"].colour.startswith("grey")


@pytest.mark.parametrize(
    ("highest", "whole", "axis"),
    [
        (1, True, (1, 1)),
        (24, True, (25, 5)),
        (950, False, (1000, 200)),
        (0.3, False, (0.3, 0.1)),
        (11, False, (15, 5)),
        (123_456, True, (150_000, 50_000)),
    ],
)
def test_an_axis_ends_at_a_round_number(highest: float, whole: bool, axis: tuple[float, float]) -> None:
    assert html.scale(highest, whole=whole) == pytest.approx(axis)


def test_a_month_without_anything_still_says_so() -> None:
    empty = Days(NOW.date() - DAY, NOW.date())
    spent = Spending(NOW.date(), {})
    for chart in (
        *(make(empty) for make in (charts.rows, charts.delay, charts.runs)),
        charts.purposes(spent),
    ):
        assert chart.empty, chart.name
        assert chart.caption.startswith("No"), chart.name


# --- the words --------------------------------------------------------------------------------------------

OLD = (NOW - 3 * DAY).isoformat()


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        ([stream("nps")], "NPS is complete up to 14:58 UTC, 2 minutes ago."),
        ([stream("feature_requests")], "Feature requests are complete up to 14:58 UTC, 2 minutes ago."),
        (
            [stream("nps"), stream("posts", complete_through=OLD)],
            "All 2 streams are complete up to 2026-03-17 15:00 UTC, 3 days ago.",
        ),
        (
            [stream("nps"), stream("posts", complete_through=None)],
            "1 of 2 streams are complete up to 14:58 UTC, 2 minutes ago.",
        ),
        # A stream that was switched off stays where it is.
        (
            [stream("nps"), stream("posts", listed=False, complete_through=OLD)],
            "NPS is complete up to 14:58 UTC, 2 minutes ago.",
        ),
        ([stream("nps", complete_through=None)], "No stream is complete yet."),
    ],
)
def test_the_banner_says_up_to_when_it_is_complete(streams: list[dict[str, Any]], said: str) -> None:
    assert html.completeness(status(streams=streams), NOW) == said
    assert f'</strong> <span data-figure="complete">{said}</span>' in html.page(
        [Subject(status(streams=streams))], NOW
    )


def test_the_banner_says_what_is_wrong_and_what_to_do() -> None:
    failing = status(health="failing", grade="error", why="It failed.", todo="See `beamer-segment runs`.")
    more = [{"found": "It failed.", "todo": "-"}, {"found": "NPS is forbidden.", "todo": "Give the right."}]
    page = html.page([Subject({**failing, "problems": more})], NOW)
    assert '<div class="banner error"><p><strong data-figure="health">Failing.</strong>' in page
    assert "See <code>beamer-segment runs</code>." in page
    assert "<li>NPS is forbidden. Give the right.</li>" in page


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (None, "never"),
        (NOW, "just now"),
        (NOW - timedelta(seconds=30), "30 seconds ago"),
        (NOW - 119 * MINUTE, "119 minutes ago"),
        (NOW - 47 * HOUR, "47 hours ago"),
        (NOW - 2_000 * DAY, "2,000 days ago"),
        (NOW + 12 * MINUTE, "in 12 minutes"),
    ],
)
def test_ages(moment: datetime | None, said: str) -> None:
    assert html.ago(moment, NOW) == said


def test_of_several_it_says_which_need_attention() -> None:
    bad = status(connection="b", health="late", grade="warning", streams=[stream("nps")])
    page = html.page([Subject(status(connection=name)) for name in "ac"] + [Subject(bad)], NOW)
    assert (
        '<div class="banner warning"><p><strong>1 of 3 connections needs attention.</strong> b: late' in page
    )
    assert page.count('<details class="connection" open>') == 3
    assert '<a href="#b">b</a>' in page


# --- the file ---------------------------------------------------------------------------------------------

# A browser fetches or runs what stands in one of these.
FETCHED = re.compile(
    r"<[^>]+\s(?:src|href|action|data|poster|srcset|style|on\w+)\s*=|url\(|@import"
    r"|<(?:script|link|base|iframe|object|img)\b"
)


def test_nothing_in_it_is_fetched_or_run(database: Database) -> None:
    page = html.page(report_data_of(database, [status()], NOW), NOW)
    assert FETCHED.findall(page) == []
    assert len(page.encode()) < 200 * KILOBYTE


def test_its_policy_lets_in_its_own_style_only() -> None:
    policy = html.policy()
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert not {"unsafe", "http", "script"} & {*re.findall("[a-z]+", policy)}


NASTY = "</script><img src=x onerror=alert(1)>&\"'<!--"


def test_names_and_words_are_text(database: Database) -> None:
    nasty = status(
        connection=NASTY,
        health=NASTY,
        grade=NASTY,
        why=NASTY,
        todo=f"`{NASTY}`",
        problems=[{"found": NASTY, "todo": NASTY}] * 2,
        limit=NASTY,
        newest=NOW.isoformat(),
        newest_stream=NASTY,
        excluded={NASTY: 3},
        streams=[stream(NASTY, trouble=NASTY)],
    )
    (known,) = report_data_of(database, [status()], NOW)
    spent = Spending(NOW.date(), {NASTY: Counter({NOW.date(): 1})})
    subject = Subject(nasty, [*known.charts, charts.purposes(spent)], {NASTY: charts.Audited()})
    page = html.page([subject], NOW, [(NASTY, NASTY)]) + html.page([subject] * 2, NOW)
    assert "<img" not in page
    assert "<!--" not in page
    assert "</script" not in page
    assert "x onerror=alert(1)&gt;&amp;&quot;&#x27;" in page


# --- served and written -----------------------------------------------------------------------------------


class Still:
    """A scheduler and a clock of which nothing is asked."""

    stopped = False
    silence = 0.0

    def now(self) -> datetime:
        return NOW

    def samples(self) -> list[Any]:
        return []


def test_alone_it_stands_at_the_root_and_is_kept_for_a_moment(database: Database) -> None:
    made: list[str] = []

    def report(name: str, links: Any) -> str:
        made.append(name)
        return html.page(report_data_of(database, [status()], NOW), NOW, links)

    still: Any = Still()
    found = pages(still, database, still, {"default": FREE}, report)
    page = found["/"]()
    assert page == found["/report/default"]()
    assert made == ["default"]
    assert b'<a href="/metrics">' in page.body
    assert b'<a href="/report/default">default</a>' in found["/connections"]().body


def test_of_several_the_root_leads_to_each(database: Database) -> None:
    still: Any = Still()
    found = pages(still, database, still, {"a": FREE, "b": FREE}, lambda name, _: f"report of {name}")
    for name in "ab":
        assert f'href="/report/{name}"'.encode() in found["/"]().body
        assert found[f"/report/{name}"]().body == f"report of {name}".encode()
    assert html._style().encode() in found["/"]().body
    assert "/report/c" not in found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    sandbox = made_up()
    with sandbox.serve() as served:
        yield Machine(sandbox, served, tmp_path)


@pytest.mark.slow
def test_the_command(machine: Machine) -> None:
    file = machine.here / "report.html"
    before = machine.run("report", "--html", str(file))
    assert (before.code, "Never run." in file.read_text()) == (0, True), before.err
    assert machine.run("sync").code == 0
    asked = machine.asked()
    done = machine.run("report", "--html", str(file), "--output", "json")
    assert (done.code, done.json["bytes"], done.json["connections"]) == (0, file.stat().st_size, ["default"])
    assert machine.asked() == asked
    page = file.read_text()
    assert "new rows since" in page
    body = page.partition("</style>")[2]
    assert [each for each in ("@", machine.sandbox.api_key, machine.sandbox.write_key) if each in body] == []
    printed = machine.run("report", "--html", "-")
    assert printed.out.rstrip().endswith("</html>")
    (machine.here / "file").touch()
    for wrong in (machine.here / "none" / "x.html", machine.here / "file" / "x.html", Path("/proc/x.html")):
        nowhere = machine.run("report", "--html", str(wrong), "--output", "json")
        assert (nowhere.code, nowhere.json["error"]["code"]) == (1, "BS-074"), wrong
        assert f"cannot be written to {wrong}" in nowhere.err
    assert machine.run("report").code == 2
    assert not list(machine.here.glob(".report.html.*"))


@pytest.mark.parametrize(
    ("way", "refused"),
    [
        ("a link in a folder of everybody", False),
        ("a link to a link there", False),
        ("a link to nothing", False),
        ("a link to a pipe", False),
        ("another user's link", False),
        ("a folder that is such a link", True),
    ],
)
def test_a_link_that_may_be_planted_is_not_followed(tmp_path: Path, way: str, refused: bool) -> None:
    folder, kept = tmp_path / "folder", tmp_path / "kept"
    folder.mkdir()
    kept.mkdir()
    victim, target = kept / "victim", folder / "figures.prom"
    victim.write_text("mine")
    match way:
        case "another user's link":
            if os.geteuid():
                pytest.skip("only root can make one")
            target.symlink_to(victim)
            os.lchown(target, 12_345, 12_345)
        case "a folder that is such a link":
            (folder / "x").symlink_to(kept)
            target = folder / "x" / "victim"
        case "a link to a link there":
            (folder / "second").symlink_to(victim)
            (kept / "first").symlink_to(folder / "second")
            target = kept / "first"
        case "a link to nothing":
            target.symlink_to(kept / "new")
        case "a link to a pipe":
            os.mkfifo(kept / "pipe")
            target.symlink_to(kept / "pipe")
        case _:
            target.symlink_to(victim)
    if way != "another user's link":
        folder.chmod(0o777)
    before = sorted(each.name for each in kept.iterdir())
    if refused:
        with pytest.raises(OSError, match="somebody else"):
            put(target, b"figures", READABLE_BY_ALL)
    else:
        put(target, b"figures", READABLE_BY_ALL)
        assert target.read_bytes() == b"figures"
    assert victim.read_text() == "mine"
    assert sorted(each.name for each in kept.iterdir()) == before


def test_links_that_lead_round(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links"):
        put(tmp_path / "a", b"", READABLE_BY_ALL)


def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    """As a device is, in whose place root would find a file."""
    file, link, pipe = tmp_path / "kept" / "report.html", tmp_path / "linked.html", tmp_path / "pipe"
    file.parent.mkdir()
    link.symlink_to(file)
    put(link, b"a report", READABLE_BY_ALL)
    assert (link.is_symlink(), file.read_bytes()) == (True, b"a report")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    put(pipe, b"a report", READABLE_BY_ALL)
    assert (pipe.is_fifo(), os.read(reader, 100)) == (True, b"a report")
    os.close(reader)
