"""A candidate in shadow, and what is decided on it when its time is over (``promotion.shadow``).

What it would have alerted is counted in each partition (``stream.shadow``) and published with the drift records, so that the
replica that trains knows it of all partitions. What is decided follows from these records alone, and not from who read them
when.

**When.** The shadow is over when every partition that judges has published an interval that ends at or after its end, or any of
them one more: a partition that has fallen silent holds nobody up. Until then the candidate must have judged at least half of
the windows of the model in force, and so many that an interval of drift would count (``FEWEST_WINDOWS``): replicas that were
restarted, or failures of the candidate, have then left out less than they show. If it has judged fewer, it is given as much
time once more; after that it is refused.

**The rule** ``shadow``. An episode that both models show is no error of the candidate, and neither can be told from a fault
that only one has found. So the candidate may show as many episodes alone as the budgets allow for the time that it judged,
with the gate's room for chance (``promotion.by_chance``, and one more), or as many as the model in force has shown alone: then people
get no more alerts than they do now. One episode may last: a candidate that alone has one in more than half of its windows tells nothing
from anything else, and is refused, too. What the model in force has shown alone is reported and refuses nothing: that faults are
still found is what the gate has tested, on faults that it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from daemon.adapters.registry import DecisionRecord
from daemon.alert import ShadowCounts
from daemon.asset_drift import FEWEST_WINDOWS
from daemon.budget import Budget
from daemon.detector import Detector
from daemon.documents import counted
from daemon.domain import DAY_NS, DriftRecord, InputPartition, StreamSpec
from daemon.model.decision import Rule
from daemon.model.promotion import by_chance
from daemon.stream.encoding import PublishedDrift

ENOUGH = 0.5
"""The least share of the windows of the model in force."""
MOST_ALONE = 0.5
"""The largest share of its windows in which a candidate has an episode alone."""


@dataclass(slots=True)
class ShadowTally:
    """What the drift records of all partitions say of one candidate since its shadow began."""

    parent: str  # the model in force
    model: str  # the candidate
    since_ns: int  # event time
    counts: ShadowCounts = field(init=False)
    judged: int = field(default=0, init=False)  # windows of the model in force
    reached: dict[InputPartition, int] = field(default_factory=dict, init=False)
    """By partition the end of its newest interval, ns."""

    def __post_init__(self) -> None:
        self.counts = ShadowCounts(self.model)

    def add(self, record: DriftRecord | PublishedDrift) -> None:
        """Take a record, each once."""
        if record.model != self.parent or record.end_ns <= self.since_ns:
            return
        before = self.reached.get(record.partition, 0)
        self.reached[record.partition] = max(before, record.end_ns)
        self.judged += record.windows + record.explained
        if record.shadow is not None and record.shadow.model == self.model:
            self.counts += record.shadow

    def is_over(self, until_ns: int, interval_ns: int) -> bool:
        """Whether all that was judged up to this event time is known."""
        ends = self.reached.values()
        return bool(ends) and (min(ends) >= until_ns or max(ends) >= until_ns + interval_ns)

    @property
    def enough(self) -> bool:
        """Whether the candidate has judged enough."""
        return self.counts.windows >= max(ENOUGH * self.judged, FEWEST_WINDOWS)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is decided on a candidate in shadow."""

    promoted: bool
    reason: str
    rule: Rule


def said(counts: ShadowCounts) -> str:
    """Counts in words."""
    kinds = [
        f"{what} {n}" for what, n in (("anomaly", counts.anomalies), ("deviation", counts.deviations)) if n
    ]
    return (
        f"{counted(counts.episodes, 'episode')} in {counted(counts.windows, 'window')}"
        + (f" ({', '.join(kinds)})" if kinds else "")
        + f", {counts.both} of them with the model in force, which had {counts.only_incumbent} more"
    )


@dataclass(frozen=True, slots=True, eq=False)
class InShadow:
    """A candidate in shadow in this process."""

    record: DecisionRecord  # that says so
    bundle: bytes
    detector: Detector
    assets: int  # that it was calibrated on, among which a budget of the stream is shared out
    since_ns: int  # event time
    until_ns: int
    tally: ShadowTally

    @staticmethod
    def of(record: DecisionRecord, bundle: bytes, detector: Detector, assets: int) -> InShadow:
        """One of which nothing is known yet."""
        assert record.shadow is not None
        since_ns, until_ns = record.shadow.since_ns, record.shadow.until_ns
        tally = ShadowTally(record.parent, detector.version, since_ns)
        return InShadow(record, bundle, detector, assets, since_ns, until_ns, tally)


def verdict(
    shadow: InShadow, spec: StreamSpec, interval_ns: int, budgets: Sequence[Budget]
) -> Verdict | None:
    """What is decided on a candidate; None: nothing yet.

    Args:
        shadow: the candidate.
        spec: the stream.
        interval_ns: of the drift records.
        budgets: of anomalies and of deviations.
    """
    tally, until_ns = shadow.tally, shadow.until_ns
    if not tally.is_over(until_ns, interval_ns):
        return None
    counts = tally.counts
    if tally.enough:
        return _judged(counts, spec, budgets, shadow.assets)
    if not tally.is_over(2 * until_ns - shadow.since_ns, interval_ns):
        return None
    reason = f"it has judged only {counts.windows} of {tally.judged} windows in shadow, in twice the time"
    least = max(ENOUGH * tally.judged, FEWEST_WINDOWS)
    return Verdict(False, reason, Rule("shadow", counts.windows, least, False, at_least=True))


def _judged(counts: ShadowCounts, spec: StreamSpec, budgets: Sequence[Budget], assets: int) -> Verdict:
    """The rule, on a candidate that has judged enough."""
    most = MOST_ALONE * counts.windows
    if counts.alone > most:
        reason = f"it alone has an episode in {counts.alone} of {counts.windows} windows in shadow"
        return Verdict(False, reason, Rule("shadow", counts.alone, most, False))
    days = counts.windows * spec.hop * spec.period_ns / DAY_NS
    allowed = sum(budget.allowed(days, assets) for budget in budgets)
    most = max(by_chance(allowed) + 1.0, counts.only_incumbent)
    passed = counts.only_candidate <= most
    why = "in shadow"
    if not passed:
        why = f"{counts.only_candidate} episodes in shadow that the model in force did not have"
    return Verdict(passed, f"{why}: {said(counts)}", Rule("shadow", counts.only_candidate, most, passed))
