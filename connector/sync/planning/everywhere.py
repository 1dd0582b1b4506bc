"""The plan where there is no monthly limit: everything at every run; without I/O."""

from dataclasses import replace
from datetime import datetime
from math import ceil, inf

from connector.beamer.catalogue import Stream
from connector.sync.planning import candidates
from connector.sync.planning.auditing import BEFORE, audits
from connector.sync.planning.picture import Picture
from connector.sync.planning.probes import Probe, Turn

# So much of what a run asks anyway may be added for audits.
AUDIT_SHARE = 0.05


class LookEverywhere:
    """Ask every block, and every list whose counter has moved: there is no limit but the rate."""

    def begin(self, picture: Picture, now: datetime) -> list[Probe]:
        probes = candidates.first_probes(
            picture.catalogue, picture.policy, picture.progress, picture.first_page, now
        )
        if picture.at_hand is not None:
            # A run that may spend a few requests only goes on where the ones before it ended, and reads what
            # they saw.
            probes.sort(key=lambda probe: _looked_at(picture, probe) or BEFORE)
            probes[:0] = candidates.waiting_children(
                picture.catalogue, picture.policy, picture.progress, picture.first_page
            )
        due = audits(picture, now)
        # A small share of all requests, after everything else; -1 comes behind what is worth nothing.
        few = ceil(len(probes) * AUDIT_SHARE)
        return probes + [replace(audit, turn=Turn.WORTH, worth=-1.0) for audit in due[:few]]

    def follow(self, picture: Picture, stream: Stream, parent: str, now: datetime) -> Probe | None:
        child = picture.progress.children.get(stream.name, {}).get(parent)
        if child is None:
            return None
        state = picture.progress.streams[stream.name]
        if not candidates.asks(child) and not state.distrusted:
            return None
        return candidates.list_probe(picture, stream, child, now)

    def onward(self, picture: Picture, probe: Probe, now: datetime) -> Probe:  # noqa: ARG002
        return replace(probe, worth=inf)


def _looked_at(picture: Picture, probe: Probe) -> datetime | None:
    """When a probe was last asked; of a block, the parent that was looked at longest ago."""
    if probe.look is None:
        return picture.progress.streams[probe.stream.name].looked_at
    known = picture.progress.parents.get(probe.stream.name, {})
    return min((known[name].looked_at or BEFORE for name in probe.look.block.members), default=None)
