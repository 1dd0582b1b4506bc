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
        "what was read counts as whole after the first page of a sweep",
        (
            "sync/reading/accepting.py",
            "    if not step.done:\n        return replace(child, place=resuming.dump(sweep))\n",
            "",
        ),
    ),
    _mutant(
        "window-end",
        "the watermark moves to the window's end, not to the newest row",
        ("sync/lists/sweeps.py", "reached = min(bounds) if sweep.newest else None", "reached = now"),
    ),
    _mutant(
        "no-lookback",
        "a sweep begins at the watermark",
        ("sync/lists/sweeps.py", "max(start, watermark - lookback)", "max(start, watermark)"),
    ),
    _mutant(
        "two-transactions",
        "a row's id and its event are written in two transactions",
        (
            "state/intake.py",
            "            unusable = self._quarantine(db, page, rejected, now)\n            effects = decide",
            "        with self._store.write() as db:\n"
            "            unusable = self._quarantine(db, page, rejected, now)\n            effects = decide",
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
            "sync/reading/fetching.py",
            "            at = self._taken(probe)\n",
            "            at = work.clock.now()\n",
        ),
        (
            "sync/reading/fetching.py",
            "return standing_in, partial(self._beamer.get, request, due)",
            "return standing_in, lambda: (self._beamer.get(request, due), self._taken(probe))[0]",
        ),
    ),
    _mutant(
        "retries-free",
        "another attempt is not charged",
        (
            "sync/reading/fetching.py",
            "at = self._taken(probe)",
            "at = work.clock.now() if probe.failures else self._taken(probe)",
        ),
    ),
    _mutant(
        "filtered-end",
        "a page's end is judged on the rows that are left of it",
        (
            "sync/judging/pages.py",
            "        seen_of(parsed),\n",
            "        Seen(seen_of(parsed).ids, seen_of(parsed).dates, len(judged)),\n",
        ),
        (
            "beamer/pages.py",
            "if habits.short_ends is True or empty",
            "if page.count < len(page.ids) or habits.short_ends is True or empty",
        ),
    ),
    _mutant(
        "counter-first",
        "a counter is remembered before its children were read",
        (
            "state/intake.py",
            '{**_values(child), "surplus": 0} for',
            '{**_values(child), "surplus": 0, "swept": child.counter} for',
        ),
    ),
    _mutant(
        "redirect",
        "a redirect that ends with a 200 is taken for a confirmation",
        ("segment/door.py", "        if response.history:\n            return _redirected()\n", ""),
    ),
    _mutant(
        "not-renewed",
        "the lease is not renewed by progress",
        (
            "state/leases.py",
            "_GIVE_BACK = _RENEW.values(token=leases.c.token + 1)",
            "_GIVE_BACK = _RENEW.values(token=leases.c.token + 1)\n"
            "_RENEW = update(leases).where(*_MINE).values("
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
        ("state/leases.py", '"until": now + LASTS}).rowcount != 1:', '"until": now + LASTS}).rowcount < 0:'),
    ),
    _mutant(
        "random-id",
        "a messageId comes from a random source",
        (
            "segment/identity.py",
            'readable = "-".join([PREFIX, *parts])',
            'readable = "bmr1-" + __import__("secrets").token_hex(16)',
        ),
    ),
    _mutant(
        "no-account",
        "a messageId holds no account",
        (
            "segment/identity.py",
            "[naming.destination, naming.account, fact.kind,",
            "[naming.destination, fact.kind,",
        ),
    ),
    _mutant(
        "no-change-number",
        "the changes of a row share one messageId",
        ("segment/identity.py", "if fact.change > 0:", "if fact.change < 0:"),
    ),
    _mutant(
        "held-as-sent",
        "a row that a setting held back is recorded as sent",
        ("state/intake.py", '"verdict": int(row.verdict)}', '"verdict": 1}'),
    ),
    _mutant(
        "confirms-others",
        "a confirmation deletes everything in flight",
        (
            "state/outbox.py",
            "db.execute(delete(outbox).where(_these(letters)))",
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
            "sync/reading/answers.py",
            "        if probe.look:\n            self._block(probe, page)\n",
            '        if page.rejected:\n            raise Transient("a row cannot be used")\n'
            "        if probe.look:\n            self._block(probe, page)\n",
        ),
    ),
    _mutant(
        "seen-again",
        "a row that is known already counts as new",
        (
            "state/intake.py",
            "fresh = self._new_rows(db, page, judged)",
            "fresh = self._new_rows(db, page, judged) and {row.id for row in judged}",
        ),
    ),
    _mutant(
        "short-page-ends",
        # With one of the three left, that one finds what is behind.
        "a page that is not full ends its list, though filters may have cut it, and nothing looks behind it",
        ("beamer/pages.py", "if habits.short_ends is True or empty", "if not empty or empty"),
        (
            "sync/lists/looks.py",
            "if turned.next is None and first and (",
            "if turned.next is None and not first and (",
        ),
        (
            "sync/lists/sweeps.py",
            "if (less or sweep.doubtful) and seen.count",
            "if not seen.count and seen.count",
        ),
    ),
    _mutant(
        "left-in-flight",
        "what a dead run left in flight is not sent again",
        (
            "state/tables.py",
            "LIVE, DEAD = text(\"state <> 'dead'\")",
            "LIVE, DEAD = text(\"state = 'waiting'\")",
        ),
    ),
    _mutant(
        "refused-dropped",
        "what Segment refuses is dropped",
        (
            "sync/delivery.py",
            "self._outbox.bury(letter, what, self._clock.now(), unsure=letter.id in self._unsure)",
            "self._outbox.confirm([letter], self._clock.now())",
        ),
    ),
    _mutant(
        "full-page-proves",
        "a full page is believed to hide nothing, whatever its order",
        (
            "sync/lists/looks.py",
            "not look.proving and not missing and _proves(page, known, habits, cap)",
            "not look.proving and not missing",
        ),
    ),
    _mutant(
        "views-counted",
        "reading a list of posts counts as viewing them",
        ("beamer/catalogue.py", '"saveViews": "false"', '"saveViews": "true"'),
    ),
    _mutant(
        "unsettled-passed",
        "the watermark passes an answer whose text is still being typed",
        ("sync/lists/sweeps.py", "(sweep.newest, sweep.waits, now, begun)", "(sweep.newest, now, begun)"),
    ),
)
