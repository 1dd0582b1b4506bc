"""The table of connections: made from the metrics, without scripts and without anybody's data."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from types import MappingProxyType

from connector import __version__
from connector.service.metrics import Sample

HEAD = ("connection", "last success", "last exit", "suspended", "waiting", "refused", "next sync")
NONE: Mapping[str, str] = MappingProxyType({})
STYLE = (
    ":root{color-scheme:light dark}body{font-family:sans-serif}td,th{padding:.2em 1em;text-align:left}"
    "tr.bad{background:#fdd;color:#000}tr.bad a{color:#00c}"
)


def page(samples: Iterable[Sample], now: datetime, reports: Mapping[str, str] = NONE) -> str:
    """HTML for a person; `reports` are the addresses of the connections' own pages."""
    by_name: dict[str, dict[str, float]] = {}
    for sample in samples:
        if sample.labels:
            by_name.setdefault(sample.name, {})[sample.labels[0]] = sample.value
    names = sorted(by_name.get("suspended", {}))
    rows = "".join(_row(name, by_name, reports.get(name)) for name in names)
    head = "".join(f"<th>{each}</th>" for each in HEAD)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>beamer-segment</title>'
        f"<style>{STYLE}</style><h1>beamer-segment {escape(__version__)}</h1>"
        f"<p>{len(names)} connection{'' if len(names) == 1 else 's'} at {now:%Y-%m-%d %H:%M:%S} UTC. "
        '<a href="/metrics">metrics</a> <a href="/healthz">alive?</a> <a href="/readyz">ready?</a></p>'
        f"<table><tr>{head}</tr>{rows}</table></html>\n"
    )


def _row(name: str, by_name: dict[str, dict[str, float]], report: str | None) -> str:
    def of(metric: str) -> float | None:
        return by_name.get(metric, {}).get(name)

    exit_code, suspended = of("last_run_exit_code"), of("suspended")
    cells = (
        _when(of("last_success_timestamp_seconds")),
        "" if exit_code is None else f"{exit_code:.0f}",
        "yes: a key was refused" if suspended else "",
        f"{of('outbox_messages') or 0:,.0f}",
        f"{of('dead_letters') or 0:,.0f}",
        _when(of("schedule_due_timestamp_seconds")),
    )
    bad = ' class="bad"' if suspended or exit_code else ""
    who = f'<a href="{escape(report)}">{escape(name)}</a>' if report else escape(name)
    return f"<tr{bad}><td>{who}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _when(seconds: float | None) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}" if seconds else "never"
