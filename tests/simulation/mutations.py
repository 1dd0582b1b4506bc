"""Ways to break the connector on purpose, as exact replacements in its source; each must be caught."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement; `old` stands in the file exactly once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    breaks: str
    edits: tuple[Edit, ...]


def _mutant(name: str, breaks: str, *edits: tuple[str, str, str]) -> Mutant:
    return Mutant(name, breaks, tuple(Edit(*edit) for edit in edits))


MUTANTS = (
    _mutant(
        "early",
        "what was read counts as whole after the first page of a pass",
        (
            "sync/fetch/decisions.py",
            "    if not step.done:\n        return replace(child, cursor=stored_pass.dump(pass_))\n",
            "",
        ),
    ),
    _mutant(
        "window-end",
        "the watermark moves to the window's end, not to the newest row",
        ("sync/lists/passes.py", "reached = min(bounds) if progress.newest else None", "reached = now"),
    ),
    _mutant(
        "no-lookback",
        "a pass begins at the watermark",
        ("sync/lists/passes.py", "max(start, watermark - lookback)", "max(start, watermark)"),
    ),
    _mutant(
        "two-transactions",
        "a row's id and its event are written in two transactions",
        (
            "state/page_writer.py",
            "            open_page = OpenPage(",
            "        with self._database.write() as db:\n            open_page = OpenPage(",
        ),
    ),
    _mutant(
        "sent-early",
        "a batch is marked as sent before its answer",
        (
            "sync/delivery.py",
            "        failures = 0\n        while True:\n",
            "        self._outbox.confirm(batch, self._clock.now())\n"
            "        failures = 0\n        while True:\n",
        ),
    ),
    _mutant(
        "charged-late",
        "the ledger is charged after the request",
        (
            "sync/fetch/loop.py",
            "            charge = self._charge(job)\n",
            '            charge = __import__("types").SimpleNamespace(at=run.clock.now())\n',
        ),
        (
            "sync/fetch/loop.py",
            "partial(self._beamer.get, request, due)",
            "partial(lambda job, *request: (self._beamer.get(*request), self._charge(job))[0], job, "
            "request, due)",
        ),
    ),
    _mutant(
        "retries-free",
        "another attempt is not charged",
        (
            "sync/fetch/loop.py",
            "charge = self._charge(job)",
            'charge = __import__("types").SimpleNamespace(at=run.clock.now()) if job.failures '
            "else self._charge(job)",
        ),
    ),
    _mutant(
        "filtered-end",
        "a page's end is row_verdicts on the rows that are left of it",
        (
            "sync/rows/pages.py",
            "        seen_of(parsed),\n",
            "        PageRows(seen_of(parsed).ids, seen_of(parsed).dates, len(row_verdicts)),\n",
        ),
        (
            "beamer/pagination.py",
            "if habits.short_ends is True or empty",
            "if page.count < len(page.ids) or habits.short_ends is True or empty",
        ),
    ),
    _mutant(
        "counter-first",
        "a counter is remembered before its children were read",
        (
            "state/page_writer.py",
            '{**_values(child), "surplus": 0} for',
            '{**_values(child), "surplus": 0, "read_counter": child.counter} for',
        ),
    ),
    _mutant(
        "redirect",
        "a redirect that ends with a 200 is taken for a confirmation",
        ("segment/client.py", "        if response.history:\n            return _redirected()\n", ""),
    ),
    _mutant(
        "not-renewed",
        "the lease is not renewed by progress",
        (
            "state/leases.py",
            "_GIVE_BACK = _UNTIL.values(token=leases.c.token + 1)",
            "_GIVE_BACK = _UNTIL.values(token=leases.c.token + 1)\n"
            "_RENEW = _RENEW.values("
            'expires_at=case((bindparam("until") < leases.c.expires_at, leases.c.expires_at),'
            " else_=leases.c.expires_at))",
        ),
        (
            "state/leases.py",
            "from sqlalchemy import Connection, Row, bindparam",
            "from sqlalchemy import Connection, Row, case, bindparam",
        ),
    ),
    _mutant(
        "not-fenced",
        "a run that has lost its lease goes on writing",
        (
            "state/leases.py",
            "    if renewals is None or renewals",
            "    renewals = renewals or lease.renewals + 1\n    if renewals is None or renewals",
        ),
    ),
    _mutant(
        "random-id",
        "a messageId comes from a random source",
        (
            "segment/shaping.py",
            'readable = "-".join([PREFIX, *parts])',
            'readable = "bmr1-" + __import__("secrets").token_hex(16)',
        ),
    ),
    _mutant(
        "no-account",
        "a messageId holds no account",
        (
            "segment/shaping.py",
            "[naming.destination, naming.account, fact.kind,",
            "[naming.destination, fact.kind,",
        ),
    ),
    _mutant(
        "no-change-number",
        "the changes of a row share one messageId",
        ("segment/shaping.py", "if fact.change > 0:", "if fact.change < 0:"),
    ),
    _mutant(
        "held-as-sent",
        "a row that a setting excluded is recorded as sent",
        ("state/page_writer.py", '"verdict": int(row.verdict)}', '"verdict": 1}'),
    ),
    _mutant(
        "confirms-others",
        "a confirmation deletes everything in flight",
        (
            "state/outbox.py",
            "db.execute(delete(outbox).where(_these(messages)))",
            "db.execute(delete(outbox).where(outbox.c.state == FLIGHT))",
        ),
    ),
    _mutant(
        "other-destination",
        "what waits for another destination is delivered",
        ("state/outbox.py", '    outbox.c.destination == bindparam("where"),\n', ""),
    ),
    _mutant(
        "spoilt-page",
        "one row that cannot be used spoils its page",
        (
            "sync/fetch/handler.py",
            "        if probe.check:\n            self._accept_block(job, page)\n",
            '        if page.rejected:\n            raise Transient("a row cannot be used")\n'
            "        if probe.check:\n            self._accept_block(job, page)\n",
        ),
    ),
    _mutant(
        "seen-again",
        "a row that is known already counts as new",
        (
            "state/page_writer.py",
            "NewRows(self._new_rows(db, page, row_verdicts), ",
            "NewRows(self._new_rows(db, page, row_verdicts) and {row.id for row in row_verdicts}, ",
        ),
    ),
    _mutant(
        "short-page-ends",
        # With one of the three left, that one finds what is behind.
        "a page that is not full ends its list, though filters may have cut it, and nothing looks behind it",
        ("beamer/pagination.py", "if habits.short_ends is True or empty", "if not empty or empty"),
        (
            "sync/lists/blocks.py",
            "if turned.next is None and first and (",
            "if turned.next is None and not first and (",
        ),
        (
            "sync/lists/passes.py",
            "if doubtful and page.seen.count and",
            "if not page.seen.count and page.seen.count and",
        ),
    ),
    _mutant(
        "left-in-flight",
        "what a dead run left in flight is not sent again",
        (
            "state/tables.py",
            "LIVE, IS_DEAD = text(\"state <> 'dead'\")",
            "LIVE, IS_DEAD = text(\"state = 'waiting'\")",
        ),
    ),
    _mutant(
        "refused-dropped",
        "what Segment refuses is dropped",
        (
            "sync/delivery.py",
            "self._outbox.mark_dead(message, what, now, self._latest(now), "
            "unsure=message.id in self._unsure)",
            "self._outbox.confirm([message], now)",
        ),
    ),
    _mutant(
        "kept-by-this-clock",
        "a dead message is kept from what this machine's clock showed, which may be behind",
        ("state/outbox.py", '"answered_at": latest}', '"answered_at": now}'),
    ),
    _mutant(
        "metrics-by-any-clock",
        "totals are sent by the day that any clock shows",
        ("sync/fetch/decisions.py", "0 <= before.metrics_day - day <= 1", "before.metrics_day == day"),
        (
            "sync/fetch/handler.py",
            "Context(run.policy, state, run.earliest, ",
            "Context(run.policy, state, run.beamer_now, ",
        ),
    ),
    _mutant(
        "full-page-proves",
        "a full page is believed to hide nothing, whatever its order",
        (
            "sync/lists/blocks.py",
            "not check.proving and not missing and _proves(check, page, habits, cap)",
            "not check.proving and not missing",
        ),
    ),
    _mutant(
        "views-counted",
        "reading a list of posts counts as viewing them",
        ("beamer/streams.py", '"saveViews": "false"', '"saveViews": "true"'),
    ),
    _mutant(
        "unsettled-passed",
        "the watermark passes an answer whose text is still being typed",
        (
            "sync/lists/passes.py",
            "(progress.newest, progress.unsettled, now, started_at)",
            "(progress.newest, now, started_at)",
        ),
    ),
    _mutant(
        "unshown-read",
        "rows that a counter announced count as read, though their list did not show them",
        ("sync/lists/counter_trust.py", "    return max(0, -child.surplus)\n", "    return 0\n"),
    ),
    _mutant(
        "new-rows-end",
        "a short page ends its list, though it shows nothing but new rows",
        (
            "sync/lists/passes.py",
            "    return page.all_new + len(pass_",
            "    return False and page.all_new + len(pass_",
        ),
    ),
    _mutant(
        "stuck-at-page",
        "a reading that was cut short goes on where it stopped, and nowhere else",
        (
            "sync/lists/passes.py",
            "    pass_ = resumed(pass_, habits)\n    part, others",
            "    if pass_:\n        return pass_\n    part, others",
        ),
        (
            "sync/lists/passes.py",
            "    if not any(part.ready(now) for part in stored.unread):\n        return True\n",
            "    if stored:\n        return False\n",
        ),
    ),
    _mutant(
        "gateway-believed",
        "what a gateway says in Beamer's place is taken for Beamer's word",
        (
            "beamer/client.py",
            "if 400 <= status < 500 and not _beamers(status, headers, body):",
            "if not status:",
        ),
    ),
    _mutant(
        "gone-for-good",
        "a parent that one answer left out is gone, also when it is listed again",
        ("sync/fetch/decisions.py", "date=row.date, gone=False, checked_at", "date=row.date, checked_at"),
    ),
    _mutant(
        "404-read",
        "a list that answers 404 once counts as read",
        (
            "sync/fetch/handler.py",
            "child = backoff.failed(child, run.beamer_now, answered=True, at_least=backoff.UNKNOWN)",
            "child = replace(child, read_counter=child.counter, read_at=run.beamer_now)",
        ),
    ),
    _mutant(
        "date-believed",
        "the date of one answer is believed, whatever it is",
        ("domain/beamer_time.py", "        if self._believes(date, now):\n", "        if date:\n"),
        (
            "domain/beamer_time.py",
            "return max(NONE, self.ahead, self.doubted or NONE)",
            "return self.ahead",
        ),
    ),
    _mutant(
        "not-synced",
        "a commit does not wait for the disk",
        ("state/dialects.py", "PRAGMA synchronous=FULL", "PRAGMA synchronous=OFF"),
    ),
    _mutant(
        "synced-at-checkpoints",
        "the disk has a commit only when its log is copied into the file",
        ("state/dialects.py", "PRAGMA synchronous=FULL", "PRAGMA synchronous=NORMAL"),
    ),
    _mutant(
        "entered-for-nothing",
        "what is entered as used of the quota counts for nothing",
        (
            "state/spending.py",
            "    rest = max(0, total - spent(db, account, after).requests)\n",
            "    rest = 0\n",
        ),
    ),
    _mutant(
        "full-for-good",
        "a full disk counts as a wrong setting, and nothing tries again",
        (
            "state/engine.py",
            'return state in REFUSING, lines[0].rstrip(".")',
            'return state in REFUSING or "is full" in lines[0], lines[0].rstrip(".")',
        ),
    ),
)
