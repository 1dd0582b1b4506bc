"""What each command prints with `--output json`, as JSON Schemas; docs/reference/json/ is made from this.

`UPDATE_DOCS=1 python -m pytest tests/docs` writes the files. `violations` holds an output against its schema,
which in tests permits no key that is not described.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from connector.beamer.streams import CATALOGUE
from connector.cli.output import SCHEMA_VERSION
from connector.reporting.health import HEALTH

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# A key that is not always there.
OPTIONAL = "optional"


def of(kind: str, words: str, **more: Any) -> Schema:
    return {"type": kind, "description": words, **more}


def text(words: str, *one_of: str) -> Schema:
    return of("string", words, **({"enum": [*one_of]} if one_of else {}))


def whole(words: str) -> Schema:
    return of("integer", words)


def number(words: str) -> Schema:
    return of("number", words)


def flag(words: str) -> Schema:
    return of("boolean", words)


def moment(words: str) -> Schema:
    return of("string", f"{words} (ISO 8601, UTC)", format="date-time")


def counts(words: str) -> Schema:
    return of("object", words, additionalProperties={"type": "integer"})


def many(items: Schema, words: str) -> Schema:
    return of("array", words, items=items)


def anything(words: str) -> Schema:
    return {"description": words}


def record(words: str, **keys: Schema) -> Schema:
    """Return an object with these keys; all but the optional ones are always there."""
    return of("object", words, properties=keys, required=[key for key in keys if OPTIONAL not in keys[key]])


def or_null(schema: Schema) -> Schema:
    """Return what may be unknown."""
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **enum}


def maybe(schema: Schema) -> Schema:
    return {**schema, OPTIONAL: True}


# --- parts ------------------------------------------------------------------------------------------------

CONNECTION = text("the connection's name")
STREAM = text("the stream", *CATALOGUE)
EXIT = whole("the exit code, as in the reference")
ERROR = record(
    "what went wrong",
    code=text("the error code, such as BS-069"),
    what=text("what happened"),
    todo=maybe(text("what to do")),
)
DATABASE_ROWS = counts("rows, by table of the database")
PROBLEM = record(
    "one thing that is wrong",
    word=or_null(text("the word of health that it leads to; null is information only")),
    thing=text("what it is about"),
    found=text("what is wrong"),
    todo=text("what to do"),
)
FINDING = record(
    "the result of one check",
    thing=text("what was checked"),
    grade=text("how bad it is", "ok", "warning", "error"),
    found=text("what was found"),
    todo=text("what to do; empty if there is nothing to do"),
)
FINDINGS = many(FINDING, "the results, in the order of the checks")
BACKFILL = record(
    "a backfill",
    id=whole("its number"),
    since=moment("the first date"),
    until=or_null(moment("the date before which rows are sent; null: the moment it began")),
    streams=many(STREAM, "its streams"),
    resend=flag("rows that were sent before are sent again"),
    integrations=or_null(of("object", "the destinations that receive it")),
    began_at=moment("when it began"),
    finished_at=or_null(moment("when it ended")),
    requests=whole("requests so far"),
    requests_expected=or_null(whole("requests that were estimated")),
    rows=whole("rows read so far"),
    events=whole("events so far"),
)
ESTIMATE = record(
    "what the backfill will cost",
    requests=whole("requests, at the least"),
    most_requests=whole("requests, at the most"),
    rows=whole("rows, at the least"),
    most_rows=whole("rows, at the most"),
    users=whole("different users, at the most"),
    unknown=many(STREAM, "streams that no sync has checked yet; they are not counted"),
    failures=of("object", "why a stream could not be counted", additionalProperties={"type": "string"}),
    unanswered=flag("Beamer did not answer"),
)
LATE = record(
    "how late rows were read",
    rows=whole("rows"),
    seconds=number("the sum of their delays"),
    longest=number("the longest delay, in seconds"),
    up_to=counts("rows by delay: at most so many seconds"),
)
DIFFERENCE = record(
    "a list of a backfill that showed another number of rows than Beamer counts there",
    stream=STREAM,
    parent=or_null(text("the id of the post or feature request")),
    expected=or_null(whole("rows that Beamer counts")),
    found=or_null(whole("rows that its list shows")),
    settled=flag("the difference was the same for an hour, and is accepted"),
)
REPORT: Mapping[str, Schema] = {
    "rows_new": counts("new rows, by stream"),
    "events": counts("events made of them, by stream"),
    "excluded": counts("excluded rows, by reason"),
    "quarantined": counts("invalid rows, by stream"),
    "audited": counts("lists and counts that were audited, by stream"),
    "missing_found": counts("rows that an audit found missing, by stream"),
    "late": LATE,
    "sent": whole("messages that Segment confirmed"),
    "refused": whole("messages that Segment refused for good"),
    "possible_doubles": whole("messages that may arrive twice"),
    "waiting": whole("messages that waited before the run and still wait"),
    "requests": counts("requests to Beamer, by stream"),
    "requests_spent": whole("requests to Beamer"),
    "forbidden": many({"type": "string"}, "streams that the key may not read"),
    "skipped_parents": whole("lists of deleted posts and feature requests"),
    "segmented_posts_hidden": flag("posts with a segmentation filter are invisible to the key"),
    "troubles": many({"type": "string"}, "what could not be read, in sentences"),
    "differences": many(DIFFERENCE, "lists of a backfill whose number of rows differs"),
    "stopped": or_null(text("why the run ended early")),
    "interrupted": flag("a signal ended it"),
    "price": or_null(number("what a request had to be worth; null without a monthly limit")),
    "saving": number("requests that the next run waits for"),
    "saving_since": or_null(moment("since when it waits for them")),
    "next_try": or_null(moment("when a run can go on")),
}
SUMMARY: Mapping[str, Schema] = {
    "run": or_null(whole("the number of the run")),
    "exit": EXIT,
    **REPORT,
    "requests_used": whole("requests used this month"),
    "requests_left": or_null(whole("requests left this month; null: no limit")),
    "limit": text("the monthly limit, in words"),
    "requests_again_at": or_null(moment("when the next request is available")),
    "closed_until": or_null(moment("until when 429 answers pause all requests")),
    "error": or_null(ERROR),
}
STORED_SUMMARY = record(
    "what the run did",
    **{name: maybe(schema) for name, schema in REPORT.items()},
    error=maybe(or_null(text("what it ended with"))),
)
PAST_RUN: Mapping[str, Schema] = {
    "id": whole("its number"),
    "command": text("the command, such as sync or audit"),
    "started_at": moment("when it began"),
    "finished_at": or_null(moment("when it ended; null: in progress, or killed")),
    "outcome": or_null(text("how it ended", "done", "stopped", "interrupted", "incomplete", "failed")),
    "exit": or_null(EXIT),
}
RUN = record("one run", connection=CONNECTION, **PAST_RUN, summary=or_null(STORED_SUMMARY))
STREAM_STATUS = record(
    "one stream",
    stream=STREAM,
    listed=flag("BEAMER_STREAMS lists it"),
    checked_at=or_null(moment("when Beamer last answered about it")),
    complete_through=or_null(moment("the date up to which all its rows are read")),
    newest=or_null(moment("the date of its newest row")),
    newest_delay_seconds=or_null(number("how long after its date the newest row was read")),
    counts=counts("rows; events; excluded rows, by reason"),
    lists_waiting=whole("lists with new rows, by their counters"),
    lists_never_read=whole("lists with rows from before the account was known, not read yet"),
    still_discovering=flag("its list was not yet read to its end"),
    counters_trusted=or_null(flag("whether its counters are trusted; null: it has none")),
    quarantined=counts("rows in quarantine, by reason"),
    trouble=or_null(text("why it could not be read")),
    trouble_at=or_null(moment("since when")),
)
STATUS = record(
    "one connection; what is unknown is null",
    connection=CONNECTION,
    health=text("its health in one word", *(health.word for health in HEALTH)),
    grade=text("how bad that is", "ok", "warning", "error"),
    why=or_null(text("the worst problem")),
    todo=or_null(text("what to do about it")),
    problems=many(PROBLEM, "all problems, the worst first"),
    account=or_null(text("the account's name in messageIds")),
    destination=or_null(text("the Segment source's name in messageIds")),
    start_date=or_null(moment("the date from which rows are sent")),
    limit=text("the monthly limit, in words"),
    requests_used=or_null(whole("requests used this month")),
    requests_left=or_null(whole("requests left this month")),
    requests_available=or_null(number("requests available now; null: no limit")),
    requests_per_day=or_null(number("requests that become available in a day")),
    requests_usable=or_null(whole("requests usable in the month: the limit less the reserve")),
    requests_even=or_null(number("requests that an even pace had used by now")),
    requests_since=or_null(moment("when the month began")),
    requests_until=or_null(moment("when the month ends; null: its first day is not known")),
    requests_again_at=or_null(moment("when the next request is available")),
    closed_until=or_null(moment("until when 429 answers pause all requests")),
    suspended=or_null(
        record(
            "a key that was refused",
            api=text("whose key", "beamer", "segment"),
            since=moment("since when"),
            what=text("the answer"),
        )
    ),
    lists_never_read=or_null(whole("lists with rows from before the account was known, not read yet")),
    read_by=or_null(moment("by when they will have been read")),
    excluded=counts("excluded rows, by reason"),
    outbox=counts("messages, by state"),
    waiting=many(
        record(
            "messages for one destination",
            destination=text("the destination's name"),
            messages=whole("how many"),
            oldest=moment("when the oldest was made"),
            held=flag("they were made for a former write key"),
        ),
        "messages that wait for Segment",
    ),
    segmented_posts_hidden=flag("posts with a segmentation filter are invisible to the key"),
    newest_stream=or_null(text("the stream with the newest row")),
    newest=or_null(moment("the date of that row")),
    newest_delay_seconds=or_null(number("how long after its date it was read")),
    streams=many(STREAM_STATUS, "the streams that are read, or that were"),
    last_run=or_null(RUN),
    last_success=or_null(moment("when a run last exited with 0")),
    seconds_between_syncs=or_null(number("the usual time between two syncs")),
    runs=many(record("one run", **PAST_RUN), "the last runs, newest first"),
    at_work=many(
        record(
            "a lease",
            work=text("the kind of work", "sync", "backfill"),
            pid=whole("the process"),
            host=text("its machine"),
            until=moment("when the lease ends"),
            dead=flag("the process was killed"),
        ),
        "runs in progress",
    ),
    backfills=many(BACKFILL, "backfills that are not finished"),
    hints={
        "type": "object",
        "description": "what webhooks announced, by stream",
        "additionalProperties": record(
            "the hints of one stream",
            received=whole("rows that were announced in the last 30 days, and more"),
            received_at=moment("when the last hint came"),
            confirmed=whole("of them, those of which a row was found"),
            waiting=whole("of them, those whose list is not read yet"),
        ),
    },
)
FORECAST: Mapping[str, Schema] = {
    "requests_per_day": or_null(number("the budget; null: no limit")),
    "keeps_up": flag("the budget is enough for all rows"),
    "mean_delay_hours": or_null(number("the mean delay of rows")),
}
QUOTA = record(
    "one Beamer account",
    account=or_null(text("its name; null: the key was never used")),
    connections=many(CONNECTION, "its connections"),
    limit=text("the monthly limit and the source of its figures, in words"),
    monthly_requests=or_null(whole("the monthly limit; null: none")),
    reserve=whole("requests kept for people and other tools"),
    period_day=or_null(whole("the day on which the month begins")),
    since=or_null(moment("when the month began")),
    until=or_null(moment("when the month ends")),
    used=or_null(whole("requests used this month")),
    by_purpose=counts("of these, by purpose: a stream, audit, check, elsewhere"),
    assumed=or_null(whole("requests assumed to be used before the first run")),
    left=or_null(whole("requests left this month")),
    available=or_null(number("requests available now")),
    per_day=or_null(number("requests that become available in a day")),
    closed_until=or_null(moment("until when 429 answers pause all requests")),
    pace_per_day=or_null(number("requests a day, at today's pace")),
    runs_out=or_null(moment("when the rest would be used up at that pace")),
    segment_events=counts("events sent to Segment in the last 30 days, by stream"),
    segment_most_users=whole("the most different users that these can have"),
    outlook=or_null(
        record(
            "what the account needs",
            hours_between_runs=or_null(number("hours between runs")),
            rows_a_month=of("object", "expected rows, by stream", additionalProperties={"type": "number"}),
            check_everything=record(
                "what checking everything takes",
                requests=whole("requests, once"),
                daily_a_month=number("requests a month, once a day"),
                hourly_a_month=number("requests a month, once an hour"),
            ),
            lists_never_read=counts("lists not read yet, by stream"),
            still_discovering=many(STREAM, "streams that are not listed to their end"),
            read_by=or_null(moment("by when these are read")),
            audit_round_days=or_null(number("days in which an audit reads every list once")),
            today=record("on today's budget", **FORECAST),
            plans=many(
                record(
                    "on another limit",
                    plans=many({"type": "string"}, "the plans with this limit"),
                    monthly_requests=or_null(whole("the limit")),
                    **FORECAST,
                ),
                "on the limits of other plans",
            ),
        )
    ),
)
MESSAGE: Mapping[str, Schema] = {
    "id": whole("its number"),
    "connection": CONNECTION,
    "destination": text("the destination's name"),
    "work": maybe(text("whose run delivers it", "sync", "backfill")),
    "message_id": text("its messageId"),
    "stream": text("its stream"),
    "event": text("the event's name"),
    "size": whole("its size, in bytes"),
    "made_at": moment("when it was made"),
    "state": text("waiting, flight (being sent), or dead (refused for good)", "waiting", "flight", "dead"),
    "tries": whole("how often it was sent without being confirmed"),
    "resent": flag("it was made to be sent once more (`backfill --resend`)"),
    "first_sent_at": or_null(moment("when it was first sent")),
    "answered_at": or_null(moment("when Segment last answered")),
    "answer": or_null(text("Segment's answer")),
}
ROW = record(
    "the history of one row",
    connection=CONNECTION,
    stream=text("its stream"),
    parent=maybe(or_null(text("the id of its post or feature request"))),
    row=maybe(or_null(text("its id"))),
    verdict=maybe(text("what was decided about it")),
    first_seen_in_run=maybe(whole("the run that saw it first")),
    first_seen_at=maybe(or_null(moment("when that run began"))),
    event=maybe(or_null(text("the event's name"))),
    message_id=maybe(or_null(text("its messageId"))),
    delivery=or_null(text("what became of the message", "confirmed", "waiting", "refused")),
    delivered_by=maybe(or_null(moment("when it was delivered, at the latest"))),
)
USER = record(
    "what a connection holds of a user",
    connection=CONNECTION,
    waiting=counts("messages that wait, by event"),
    refused=counts("messages that Segment refused, by event"),
    quarantined=whole("rows in quarantine"),
    forgotten=flag("no row of this user is sent"),
    identified=flag("identify was sent, of which digests are kept"),
)
DAY = record(
    "a day (UTC) of a connection; the other keys are missing before its first run",
    connection=CONNECTION,
    day=text("the day"),
    start_date=maybe(or_null(moment("the date from which rows are sent"))),
    streams=maybe(
        many(
            record(
                "one stream",
                stream=STREAM,
                complete=flag("all rows of the day are read"),
                complete_through=or_null(moment("the date up to which all rows are read")),
            ),
            "how far each stream is read",
        )
    ),
    runs=maybe(counts("the runs that began on the day, by outcome")),
    sent=maybe(whole("messages that they sent")),
    rows_new=maybe(counts("new rows, by stream")),
    excluded=maybe(counts("excluded rows, by reason")),
    quarantined=maybe(counts("invalid rows, by stream")),
    requests=maybe(counts("requests, by stream")),
    reasons=maybe(many({"type": "string"}, "why runs ended early")),
)
SYNCED = record(
    "one connection's run; if it could not begin, only connection, exit, idle and error",
    connection=CONNECTION,
    **{name: maybe(schema) for name, schema in SUMMARY.items() if name not in ("exit", "error")},
    exit=EXIT,
    error=or_null(ERROR),
    idle=flag("no request could be sent"),
    start_date=maybe(moment("the date from which rows are sent")),
    waiting_for_former_key=maybe(whole("messages that wait for a former write key")),
    notices=maybe(many({"type": "string"}, "what to know once, in sentences")),
)
PLAN = record(
    "the plan of a run (--dry-run)",
    connection=CONNECTION,
    requests_at_least=whole("requests that the run would send at once"),
    by_stream=counts("of these, by stream"),
    probes=many(
        record(
            "one request",
            stream=STREAM,
            parent=or_null(text("the id of the post or feature request")),
            reason=text("why"),
        ),
        "the requests",
    ),
    later=whole("requests for later runs"),
    available=or_null(whole("requests available now")),
    stopped=or_null(text("why no request would be sent")),
    limit=text("the monthly limit, in words"),
)
SAMPLE = record(
    "a sample (--dry-run --sample)",
    connection=CONNECTION,
    streams=many(
        record(
            "one page of a stream",
            stream=STREAM,
            parent=or_null(text("the id of the post or feature request")),
            rows=whole("rows on the page"),
            events=whole("events that a sync would send of them"),
            excluded=counts("excluded rows, by reason"),
            quarantined=whole("invalid rows"),
            too_old_or_not_ready=whole("rows older than the start date, or not ready"),
            error=or_null(text("why the page was not read")),
        ),
        "the pages that were read",
    ),
    events=many(of("object", "a message, as it would be sent"), "the sample"),
)
HISTORY = record(
    "one connection's backfill",
    connection=CONNECTION,
    estimate=maybe(or_null(ESTIMATE)),
    backfill=or_null(BACKFILL),
    **{name: maybe(schema) for name, schema in SUMMARY.items() if name != "exit"},
    exit=EXIT,
)
STREAM_COST = record(
    "one stream",
    stream=STREAM,
    use=text("its rows are sent; it is only read for its counters; or it is off", "sent", "read", "off"),
    rows=whole("rows seen so far"),
    counters_trusted=or_null(flag("whether its counters are trusted; null: it has none")),
    key=text("what is known of the key's permission", "may read", "forbidden", "not tried"),
    requests_a_poll=or_null(whole("requests that a poll takes; null: it is not read")),
)


def connections(one: Schema) -> dict[str, Schema]:
    return {"connections": many(one, "one entry for each connection")}


# --- commands ---------------------------------------------------------------------------------------------

ACCOUNTS = {"accounts": many(QUOTA, "one entry for each Beamer account")}
DRY_RUN = flag("nothing was changed")
# By command, the keys beside command, schema_version, exit and error. Two forms are two entries.
FORMS: Mapping[str, tuple[dict[str, Schema], ...]] = {
    "init": (
        {
            "file": or_null(text("the env file; null: a check failed, and nothing was written")),
            "findings": FINDINGS,
            "first_sync": maybe(text("the command of the first sync")),
            "crontab": maybe(text("the line for crontab")),
        },
    ),
    "check": ({"findings": FINDINGS},),
    "sync": (
        connections(SYNCED),
        {"dry_run": DRY_RUN, **connections(PLAN)},
        {"dry_run": DRY_RUN, **connections(SAMPLE)},
    ),
    "audit": (connections(SYNCED), {"dry_run": DRY_RUN, **connections(PLAN)}),
    "schedule": ({"drained": flag("all runs in progress ended before the process did")},),
    "backfill": (connections(HISTORY),),
    "status": (connections(STATUS),),
    "streams": (
        connections(
            record(
                "one connection",
                connection=CONNECTION,
                streams=many(STREAM_COST, "every stream"),
                requests_a_poll=whole("requests of a sync with nothing new"),
            )
        ),
    ),
    "explain": (
        {
            "rows": many(ROW, "every row that the argument may mean"),
            "users": many(USER, "what is held of a user with this id, by connection"),
            "days": many(DAY, "the day, by connection"),
        },
    ),
    "report": (
        {
            "file": text("the file that was written"),
            "bytes": whole("its size"),
            "connections": many(CONNECTION, "the connections in it"),
        },
    ),
    "runs": ({"runs": many(RUN, "the runs, newest first")},),
    "quota": (ACCOUNTS,),
    "quota set-used": (ACCOUNTS,),
    "verify": (
        {
            "connections": many(
                record(
                    "one connection",
                    connection=CONNECTION,
                    exit=EXIT,
                    error=maybe(ERROR),
                    source=maybe(or_null(text("the id of the Segment source; null: none has the write key"))),
                    problems=maybe(
                        many(
                            record("a problem", found=text("what is wrong"), todo=text("what to do")),
                            "what Segment does not keep",
                        )
                    ),
                    missing=maybe(whole("messages that Segment confirmed and does not count")),
                    discarded=maybe(whole("messages that Segment filtered, or that failed on ingest")),
                    hours=maybe(
                        many(
                            record(
                                "one event in one hour",
                                event=text("the event's name"),
                                hour=moment("the start of the hour"),
                                sent=whole("messages that Segment confirmed"),
                                received=whole("events that Segment received"),
                                filtered=whole("events that it filtered at the source"),
                                failed=whole("events that failed on ingest"),
                                missing=whole("messages that it does not count"),
                                more=whole("events more than were sent: another sender"),
                                settled=flag("the counts will not rise any more"),
                            ),
                            "the closed hours, the oldest first",
                        )
                    ),
                ),
                "the connections",
            )
        },
    ),
    "outbox list": (
        {
            "messages": many(
                record("one message", **MESSAGE, held=flag("it was made for a former write key")),
                "the messages, oldest first",
            )
        },
    ),
    "outbox show": (
        {
            "message": record(
                "one message",
                **MESSAGE,
                write_key=text("a digest of the write key that it was made for"),
                message=anything("the message, as it is sent"),
            )
        },
    ),
    "hint": (
        {
            "connection": text("the connection"),
            "stream": text("the stream"),
            "waiting": whole("rows of the stream that hints announced and that are not read yet"),
        },
    ),
    "outbox retry": ({"waiting_again": whole("messages that wait again")},),
    "outbox drop": ({"dropped": whole("messages that were deleted")},),
    "demo": (
        {
            "syncs": many(
                record(
                    "one sync",
                    sync=text("which one"),
                    rows_new=counts("new rows, by stream"),
                    sent=whole("messages that were sent"),
                    requests_spent=whole("requests"),
                ),
                "the three syncs",
            ),
            "messages": many(of("object", "a message, as it was sent"), "what Segment received"),
        },
    ),
    "sandbox": (
        {
            "environment": of(
                "object", "the variables for the other terminal", additionalProperties={"type": "string"}
            )
        },
    ),
    "events": (
        {"properties": many(of("object", "one property of an event"), "every property of every event")},
        {"schemas": of("object", "a JSON Schema for each event (--format jsonschema)")},
        {"tracking_plan": of("object", "what Segment's Public API takes (--format tracking-plan)")},
    ),
    "forget": (
        connections(
            record(
                "one connection",
                connection=CONNECTION,
                waiting_deleted=whole("waiting messages that were deleted"),
                refused_deleted=whole("refused messages that were deleted"),
                quarantined_deleted=whole("rows in quarantine that were deleted"),
            )
        ),
    ),
    "db upgrade": (
        {
            "revision_before": or_null(text("the schema's revision before")),
            "revision": text("its revision now"),
            "copy": or_null(text("the copy of the SQLite file from before")),
        },
    ),
    "state export": (
        {"connection": CONNECTION, "file": text("the file that was written"), "rows": DATABASE_ROWS},
    ),
    "state import": (
        {"connection": CONNECTION, "file": text("the file that was read"), "rows": DATABASE_ROWS},
    ),
    "state reset": (
        {
            "dry_run": DRY_RUN,
            "connection": CONNECTION,
            "stream": STREAM,
            "rows": whole("rows whose state was deleted"),
            "events": whole("events that are sent again, at the most"),
        },
    ),
    "state accept-keys": (
        connections(
            record(
                "one connection",
                connection=CONNECTION,
                changed=many({"type": "string"}, "the keys and addresses that were confirmed"),
                messages=whole("messages of a former write key that are sent with the new one"),
            )
        ),
    ),
    "state repair": (
        {
            "dry_run": DRY_RUN,
            "unreadable": many(
                record(
                    "a value that cannot be read",
                    table=text("its table"),
                    key=text("its row"),
                    column=text("its column"),
                    then=text("what becomes of it"),
                ),
                "every such value",
            ),
        },
    ),
    "config show": (
        {
            "settings": many(
                record(
                    "a setting",
                    name=text("its name in the environment, or connection.key"),
                    value=text("its value; of a secret only whether it is set"),
                    source=text("where it comes from"),
                ),
                "every setting",
            ),
            "ignored": many({"type": "string"}, "variables that no connection uses"),
            "env_file": or_null(text("the env file that was read")),
        },
    ),
}


def schema(command: str) -> Schema:
    """Return the schema of a command's output: one of its forms, or an error."""
    forms = FORMS[command]
    keys = {name: form[name] for form in forms for name in form}
    if len(forms) > 1:
        # A key with two forms is described in each of them.
        keys = {name: one for name, one in keys.items() if all(form.get(name, one) == one for form in forms)}
    always = {
        "command": {"const": command},
        "schema_version": {
            "const": SCHEMA_VERSION,
            "description": "rises with each change that breaks readers",
        },
        "exit": EXIT,
    }
    branches = [_branch({name: form[name] for name in form if name not in keys}, form) for form in forms]
    failed = {"required": ["error"], "properties": {"error": or_null(ERROR)}}
    made: Schema = _cleaned(
        {
            "$schema": DIALECT,
            "title": f"beamer-segment {command} --output json",
            "type": "object",
            "properties": {**always, **keys, "error": or_null(ERROR)},
            "required": [*always],
            "anyOf": [*branches, failed],
        }
    )
    return made


def _branch(own: Mapping[str, Schema], form: Mapping[str, Schema]) -> Schema:
    required = [name for name, one in form.items() if OPTIONAL not in one]
    return {"required": required, **({"properties": dict(own)} if own else {})}


def _cleaned(value: Any) -> Any:
    """Return a schema without the marks of optional keys."""
    if isinstance(value, dict):
        marked = value.get(OPTIONAL) is True
        return {name: _cleaned(one) for name, one in value.items() if not (marked and name == OPTIONAL)}
    return [_cleaned(one) for one in value] if isinstance(value, list) else value


FOLDER = Path(__file__).parents[2] / "docs" / "reference" / "json"


def file_of(command: str) -> Path:
    return FOLDER / f"{command.replace(' ', '-')}.json"


def written(command: str) -> str:
    return json.dumps(schema(command), indent=1, ensure_ascii=False) + "\n"


# --- the tests' side --------------------------------------------------------------------------------------


def closed(value: Any) -> Any:
    """Return a schema in which an object has no other keys than those that are described."""
    if isinstance(value, list):
        return [closed(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: closed(one) for name, one in value.items()}
    if "properties" in found and found.get("type") in ("object", ["object", "null"]):
        inner = "unevaluatedProperties" if "anyOf" in found else "additionalProperties"
        found.setdefault(inner, False)
    return found


@cache
def validator(command: str) -> Draft202012Validator:
    return Draft202012Validator(closed(schema(command)))


def violations(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a command's JSON output."""
    command = str(document.get("command"))
    if command not in FORMS:
        # A wrong command line, whose command is not known.
        if "error" not in document:
            yield f"{command} has no schema"
        return
    for error in validator(command).iter_errors(document):
        yield f"{command}: {error.json_path}: {error.message[:300]}"
