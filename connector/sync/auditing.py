"""The plan of an audit that was asked for: every list is read again and compared; without I/O."""

from dataclasses import replace
from datetime import datetime
from math import inf

from connector.beamer.catalogue import Stream, children
from connector.sync import candidates, counters
from connector.sync.picture import Picture
from connector.sync.planner import list_probe
from connector.sync.probes import Probe
from connector.sync.windows import whole_days


class AuditEverything:
    """Read each window of parents to its end, each list that is not empty whole, and count the rest.

    The lists read longest ago come first, so that an audit that the budget cuts short goes on at the next.
    """

    def __init__(self, since: datetime) -> None:
        self._since = since

    def begin(self, picture: Picture, now: datetime) -> list[Probe]:
        probes: list[Probe] = []
        for stream in candidates.wanted(picture.catalogue, picture.policy):
            if stream.parent is not None:
                probes += self._lists(picture, stream, now)
            elif children(picture.catalogue, stream.name):
                known = candidates.block_probes(stream, picture.progress, now)
                probes += [_proving(probe) for probe in known if self._due(picture, probe)]
            else:
                probes += self._counts(picture, stream, now)
        return probes

    def follow(self, picture: Picture, stream: Stream, parent: str, now: datetime) -> Probe | None:
        """What a block shows to have moved is read as in a sync."""
        child = picture.progress.children.get(stream.name, {}).get(parent)
        return list_probe(picture, stream, child, now) if child and candidates.asks(child) else None

    def onward(self, picture: Picture, probe: Probe, now: datetime) -> Probe:  # noqa: ARG002
        return replace(probe, worth=inf)

    def _due(self, picture: Picture, probe: Probe) -> bool:
        known = picture.progress.parents.get(probe.stream.name, {})
        members = probe.look.block.members if probe.look else frozenset()
        proofs = [known[name].proved_at for name in members]
        return not proofs or any(proof is None or proof < self._since for proof in proofs)

    def _lists(self, picture: Picture, stream: Stream, now: datetime) -> list[Probe]:
        parents = picture.progress.parents.get(stream.parent or "", {})
        found = []
        for child in picture.progress.children.get(stream.name, {}).values():
            parent = parents.get(child.parent)
            done = child.whole_at is not None and child.whole_at >= self._since
            if parent is None or parent.gone or done or not counters.total(child.counter):
                continue
            if candidates.asks(child):
                probe = list_probe(picture, stream, child, now)
            else:
                probe = candidates.audit_probe(stream, child, picture.policy)
                probe.audit = True
            probe.worth = (now - (child.whole_at or parent.date)).total_seconds()
            found.append(probe)
        return found

    def _counts(self, picture: Picture, stream: Stream, now: datetime) -> list[Probe]:
        state = picture.progress.streams[stream.name]
        window = whole_days(picture.policy.start, now)
        done = state.audited_at is not None and state.audited_at >= self._since
        if window is None or done or not state.complete or state.place:
            return [candidates.dated_probe(stream, state, picture.policy, picture.first_page)]
        probe = candidates.count_probe(stream, window)
        probe.whole = True
        return [candidates.dated_probe(stream, state, picture.policy, picture.first_page), probe]


def _proving(probe: Probe) -> Probe:
    assert probe.look is not None  # noqa: S101 - a block's probe
    return replace(probe, look=replace(probe.look, proving=True), audit=True, worth=inf)
