"""A candidate in shadow, and what is decided on it when its time is over (``promotion.shadow``).

What it would have alerted is counted in each partition (``stream.shadow``) and published with the drift records, so that the
replica that trains knows it of all partitions. What is decided follows from these records alone, and not from who read them
when.

**When.** The shadow is over when every partition that judges has published an interval that ends at or after its end, or any of
them one more: a partition that has fallen silent holds nobody up. Intervals that begin later do not count, whenever they are
read. Until then the candidate must have judged at least half of the windows of the model in force, those of planned stops
aside: replicas that were restarted, or failures of the candidate, have then left out less than they show. If it has judged
fewer, it is given as much time once more; after that it is refused. And it is given as much time again for as long as there
are fewer windows than an interval of drift must have to count (``FEWEST_WINDOWS``): a slow stream has no more.

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
from daemon.stream.drift import ALL_TIME
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
    intervals: dict[int, tuple[ShadowCounts, int]] = field(default_factory=dict, init=False)
    """By event time of their begin, ns: counts, and windows that the candidate was to judge."""
    reached: dict[InputPartition, int] = field(default_factory=dict, init=False)
    """By partition the end of its newest interval, ns."""

    def add(self, record: DriftRecord | PublishedDrift) -> None:
        """Take a record, each once."""
        if record.model != self.parent or record.end_ns <= self.since_ns:
            return
        before = self.reached.get(record.partition, 0)
        self.reached[record.partition] = max(before, record.end_ns)
        counts, judged = self.intervals.get(record.start_ns, (ShadowCounts(self.model), 0))
        judged += record.windows + record.explained
        if record.shadow is not None and record.shadow.model == self.model:
            counts += record.shadow
            judged -= record.shadow.planned
        self.intervals[record.start_ns] = counts, judged

    def before(self, end_ns: int) -> tuple[ShadowCounts, int]:
        """Of the intervals that begin before an event time: counts, and windows that the candidate was to judge."""
        counts, judged = ShadowCounts(self.model), 0
        for start_ns, (some, n) in self.intervals.items():
            if start_ns < end_ns:
                counts, judged = counts + some, judged + n
        return counts, judged

    @property
    def counts(self) -> ShadowCounts:
        """Of all intervals so far."""
        return self.before(ALL_TIME)[0]

    def is_over(self, until_ns: int, interval_ns: int) -> bool:
        """Whether all that was judged up to this event time is known."""
        ends = self.reached.values()
        return bool(ends) and (min(ends) >= until_ns or max(ends) >= until_ns + interval_ns)


@dataclass(frozen=True, slots=True)
class ShadowDecision:
    """What is decided on a candidate in shadow."""

    promoted: bool
    reason: str
    rule: Rule
    counts: ShadowCounts  # by which it was decided


def in_words(counts: ShadowCounts) -> str:
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


def decision_on(
    shadow: InShadow, spec: StreamSpec, interval_ns: int, budgets: Sequence[Budget]
) -> ShadowDecision | None:
    """What is decided on a candidate; None: nothing yet.

    Args:
        shadow: the candidate.
        spec: the stream.
        interval_ns: of the drift records.
        budgets: of anomalies and of deviations.
    """
    tally, lasts_ns, times = shadow.tally, shadow.until_ns - shadow.since_ns, 1
    while tally.is_over(end_ns := shadow.since_ns + times * lasts_ns, interval_ns):
        counts, judged = tally.before(end_ns)
        least, longer = ENOUGH * judged, "" if times == 1 else f", in {times} times the time"
        if counts.windows >= max(least, FEWEST_WINDOWS):
            return _judged(counts, spec, budgets, shadow.assets, longer)
        if times > 1 and counts.windows < least:
            reason = f"it has judged only {counts.windows} of {judged} windows in shadow{longer}"
            rule = Rule("shadow", counts.windows, least, False, at_least=True)
            return ShadowDecision(False, reason, rule, counts)
        later = [start_ns for start_ns in tally.intervals if start_ns >= end_ns]
        if not later:
            return None
        times = (min(later) - shadow.since_ns) // lasts_ns + 1  # there is nothing new before
    return None


def _judged(
    counts: ShadowCounts, spec: StreamSpec, budgets: Sequence[Budget], assets: int, longer: str
) -> ShadowDecision:
    """The rule, on a candidate that has judged enough."""
    most = MOST_ALONE * counts.windows
    if counts.alone > most:
        reason = f"it alone has an episode in {counts.alone} of {counts.windows} windows in shadow"
        return ShadowDecision(False, reason + longer, Rule("shadow", counts.alone, most, False), counts)
    days = counts.windows * spec.hop * spec.period_ns / DAY_NS
    allowed = sum(budget.allowed(days, assets) for budget in budgets)
    most = max(by_chance(allowed) + 1.0, counts.only_incumbent)
    passed = counts.only_candidate <= most
    why = f"in shadow{longer}"
    if not passed:
        why = f"{counts.only_candidate} episodes in shadow{longer} that the model in force did not have"
    rule = Rule("shadow", counts.only_candidate, most, passed)
    return ShadowDecision(passed, f"{why}: {in_words(counts)}", rule, counts)
