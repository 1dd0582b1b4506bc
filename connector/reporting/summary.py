"""The summary of a run, in a few lines."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from connector.domain.verdicts import Verdict
from connector.state.ledger import Balance

if TYPE_CHECKING:
    from connector.sync.report import Difference
    from connector.sync.run import Outcome

WHY_HELD = {
    Verdict.NO_USER.label: "no user id (anonymous = hold)",
    Verdict.TEAM.label: "the team's own comments (team_comments = false)",
    Verdict.STREAM_OFF.label: "stream not listed (streams)",
    Verdict.MOVED.label: "sent before, under another post or request",
    Verdict.FORGOTTEN.label: "the person was forgotten (forget --user-id)",
}
MOST_DIFFERENCES = 20
SEGMENTED = (
    "Posts with a segmentation filter are invisible to this key: "
    "give it the permission 'Read posts (ignore filters)' in Beamer."
)


def as_dict(name: str, outcome: "Outcome", balance: Balance, limit_text: str) -> dict[str, Any]:
    """One connection's part of the JSON summary."""
    error = outcome.error
    return {
        "connection": name,
        "run": outcome.run,
        "exit": int(outcome.exit),
        **outcome.report.as_dict(),
        "requests_used": balance.used,
        "requests_left": balance.left,
        "limit": limit_text,
        "requests_again_at": balance.again.isoformat() if balance.again else None,
        "closed_until": balance.closed_until.isoformat() if balance.closed_until else None,
        "error": error and error.as_dict(),
    }


def lines(name: str, outcome: "Outcome", balance: Balance, limit_text: str) -> list[str]:
    """Return the summary for people: one line if all is well, one more for each problem."""
    report = outcome.report
    found = [
        f"{name}: {report.new.total():,} new rows, {report.sent:,} sent, {report.waiting:,} waiting; "
        f"{report.requests_spent} requests, {_left(balance)} ({limit_text})"
    ]
    if report.new:
        found.append("  new: " + _listed(report.new))
    if report.audited:
        missing = (
            f"{report.missing.total():,} rows were missing and are sent" if report.missing else "none missing"
        )
        found.append(f"  audited: {_listed(report.audited)} – {missing}")
    found += [f"  excluded: {count:,} rows – {WHY_HELD.get(why, why)}" for why, count in report.held.items()]
    if report.quarantined:
        found.append(f"  quarantined: {_listed(report.quarantined)} (kept for 30 days)")
    if report.refused:
        found.append(f"  refused by Segment: {report.refused:,} – see `beamer-segment outbox list --dead`")
    if report.possible_doubles:
        found.append(
            f"  possible duplicates: {report.possible_doubles:,} messages were sent again over 20 hours "
            "after their first try; Segment may not drop them"
        )
    if report.segmented_hidden:
        found.append(f"  {SEGMENTED}")
    if report.skipped_parents:
        found.append(f"  skipped: {report.skipped_parents} lists of deleted posts or feature requests")
    found += [f"  not read: {trouble}" for trouble in report.troubles]
    found += [f"  {_differs(each)}" for each in report.differences[:MOST_DIFFERENCES]]
    if (more := len(report.differences) - MOST_DIFFERENCES) > 0:
        found.append(f"  and {more:,} more lists that differ; --output json lists all of them")
    if report.stopped:
        found.append(f"  stopped early: {report.stopped.rstrip('.')}{_until(report.next_try)}")
    return found


def _differs(of: "Difference") -> str:
    where = f"{of.stream} of {of.parent}" if of.parent else of.stream
    due = "rows" if of.expected is None else f"{of.expected:,}"
    if of.found is None:
        return f"differs: {where}: {due} expected; Beamer shows the parent, but answers 404 to the list"
    said = f"differs: {where}: {due} expected, {of.found:,} found"
    return f"{said}; the same number an hour later, so the others count as deleted" if of.settled else said


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _left(balance: Balance) -> str:
    return "no limit" if balance.left is None else f"{balance.left:,} left"


def _until(moment: Any) -> str:
    return f" – again from {moment:%Y-%m-%d %H:%M} UTC" if moment else ""
