"""The gate: the tests that a retrained model must pass before it replaces the running one.

All must hold:

* every number is finite, and at least 2 latents are active (fewer only where pPCA itself keeps fewer: a
  stream that moves along one direction);
* on held-out normal rows: no more episodes than the budget and chance allow (see below); one more only where it
  is at most 1.25 times the incumbent's, or one more than them;
* on faults injected into those rows (see ``faults``; all kinds that scores can find), but for sensors that either model
  sets aside (see ``unwatched``): recall at most 2
  points below the incumbent's, and what chance allows. A model that has learned a fault as normal fails
  here, because its spread has grown to contain the fault. Only faults count before which the rows are usual to both: an
  incumbent that does not know a regime, a season or a false alarm finds everything there. Once, where people have called
  rows normal since the incumbent was trained (a planned change, a false alarm), ``CALLED_NORMAL_MARGIN`` stands for the 2
  points: what is normal on one asset is no fault on another, of the one model that all share. Where alarms cut the rows into pieces too short
  for injected faults, the incumbent stays;
* every *golden incident*, an episode that people confirmed, that the incumbent finds (see ``golden_incidents``);
* on held-out rows: likelihood no worse than that of pPCA fitted on the same training data.

Each of these compares with the incumbent, and what each allows is learned again at the next retraining. So four rules compare
with the beginning of the line of models (see ``anchor``): no sensor may have moved further than ``ANCHOR_LIMIT`` from where it was, but for
what is a season rather than wear; none may change more than ``ROUGHNESS_LIMIT`` times as much from row to row, for
noise hides faults of its size; no asset may have moved further than ``APART_LIMIT`` away from the others of its fleet (see ``apart``); and
recall may be at most ``ANCHOR_RECALL_MARGIN`` below what it was, and what
chance allows. Beyond that the operator decides: a model that is trained by hand, or put in force against the gate, begins a new
line. What people have called normal begins recall anew.

Every rule that can be judged is judged, also after one has refused, so that the decision shows all that is wrong;
the reason is that of the first. Only numbers that are not finite, and no rows to compare on, leave nothing to judge.

Counts are small (a held-out hour allows .04 episodes at one a day), so both episode rules leave room for
chance: one episode more than the factor allows, and two standard deviations of a Poisson count above the
budget.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon.alarm import episodes, firing
from daemon.budget import Budget
from daemon.detector import Detector, Verdicts, Windows
from daemon.domain import DAY_NS, NO_CONDITION, AlarmPolicy, Floats, Ints, Mask, Segment
from daemon.model.anchor import ANCHOR, moved, roughened
from daemon.model.apart import departed
from daemon.model.bundle import Bundle
from daemon.model.decision import Decision, Rule
from daemon.model.drill import FOUND
from daemon.model.faults import GATE_KINDS, Fault, FaultKind, injected_faults
from daemon.model.golden_incidents import GoldenIncident
from daemon.model.reconstruction import Models
from daemon.model.segments import sliding
from daemon.model.soundness import wanted_units

FALSE_ALARM_FACTOR = 1.25
RECALL_MARGIN = 0.02
CALLED_NORMAL = "called_normal"
"""The fact of a candidate that has learned rows which people called normal since the incumbent was trained."""
CALLED_NORMAL_MARGIN = 0.2
"""A shift of one to three standard deviations of one sensor, learned of one of two assets, costs 10 to 14 points."""
LIKELIHOOD_MARGIN = 0.05  # nats per observed cell
ANCHOR_LIMIT = 3.0
"""Standard deviations, of the anchor's, that a sensor may move over all retrainings, see ``anchor.moved``."""
ROUGHNESS_LIMIT = 2.0
"""How many times as much as the anchor's a sensor may change from row to row, see ``anchor.roughened``: a fault must not have to
be twice as large to stand out. Over 60 simulated days of a season, honest candidates of three kinds of machine had 1.08 at most."""
APART_LIMIT = 0.2
"""Standard deviations within an asset that it may move away from the others beyond chance, see ``apart.departed``. Over 60 simulated days
honest ones of four kinds of machine, whose loads wandered over weeks or of which one rested for a week in turn, had .14 at most."""
ANCHOR_RECALL_MARGIN = 0.1
"""What may be lost of recall over all retrainings; ``RECALL_MARGIN`` at each of five. Those candidates that passed all else lost .07 at most."""
RECALL = "recall"
"""The entry of an anchor: the ``share`` of injected faults that were found, and of how many ``faults``."""
CHUNK = 1024
FEWEST = 5
"""Smallest number of faults for a share of found ones."""


def scores_of(detector: Detector, segment: Segment, hop: int = 1) -> Floats:
    """(T,) scores of a segment's rows from a fresh baseline; NaN where no window is due or full."""
    return judged(detector, segment, hop)[0]


def judged(detector: Detector, segment: Segment, hop: int = 1) -> tuple[Floats, Floats]:
    """(T,) scores and (T,) largest jumps of a segment's rows, as ``scores_of``."""
    scores, jumps = np.full((2, len(segment.values)), np.nan)
    for due, verdicts in _verdicts(detector, segment, hop):
        scores[due], jumps[due] = verdicts.score, verdicts.largest_jump
    return scores, jumps


def _verdicts(detector: Detector, segment: Segment, hop: int) -> Iterator[tuple[Ints, Verdicts]]:
    """The verdicts on a segment's due rows in their order, from a fresh baseline, some at a time."""
    first = detector.window - 1
    first += -(segment.first_row + first) % hop
    rows = np.arange(first, len(segment.values), hop)
    windows = sliding(segment.values, detector.window)[first - detector.window + 1 :: hop]
    labels = segment.condition or (NO_CONDITION,) * len(segment.values)
    baseline = detector.fresh_baseline(segment.asset)[None, :]
    for at in range(0, len(rows), CHUNK):
        due = rows[at : at + CHUNK]
        some = windows[at : at + CHUNK]
        whole = Windows(
            some,
            np.ones(len(due), bool),
            tuple(labels[row] for row in due),
            asset=(segment.asset,) * len(due),
        )
        yield due, detector.judge(detector.infer(whole), baseline, np.zeros(len(due), np.int64))


def finds(detector: Detector, incident: GoldenIncident, hop: int = 1) -> bool:
    """Whether from the incident's onset on a score, a sensor's jump or its deviation is beyond its limit."""
    for due, verdicts in _verdicts(detector, incident.segment, hop):
        opens = (verdicts.score > detector.threshold) | (verdicts.largest_jump > 1.0)
        if verdicts.sustained is not None:
            opens = opens | (verdicts.sustained.opening > 1.0).any(1)
        if opens[due >= incident.onset].any():
            return True
    return False


def recall(found: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Share of the faults that were found: per kind and ``all``."""
    result = {kind: float(np.mean(hits)) for kind, hits in found.items()}
    every = [hit for hits in found.values() for hit in hits]
    return result | {"all": float(np.mean(every)) if every else math.nan}


def smallest(faults: Sequence[Fault], found: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Per kind with sizes, the least size from which on ``FOUND`` of the faults are found.

    Args:
        faults: what was injected.
        found: see ``hits``.

    Returns:
        Standard deviations, of a lag rows. A kind is left out where not even the largest
        ``FEWEST`` are found so often.
    """
    result = {}
    for kind, mine in found.items():
        sizes = np.array([fault.size for fault in faults if fault.kind == kind])
        if not FaultKind(kind).sized or len(sizes) < FEWEST:
            continue
        order = np.argsort(-sizes, kind="stable")
        shares = np.cumsum(np.array(mine, float)[order]) / np.arange(1, len(order) + 1)
        enough = np.flatnonzero(shares[FEWEST - 1 :] >= FOUND)
        if len(enough):
            result[kind] = float(sizes[order][FEWEST - 1 + int(enough[-1])])
    return result


def hits(detector: Detector, faults: Sequence[Fault]) -> dict[str, list[bool]]:
    """Per kind, in the faults' order: whether each scores above the threshold while it lasts, or a sensor jumps.

    The row before the fault is judged, too: the fault's first row is a jump from there.
    """
    L = detector.window
    found: dict[str, list[bool]] = {}
    for kind in GATE_KINDS:
        mine = [fault for fault in faults if fault.kind is kind]
        if not mine:
            continue
        length = len(mine[0].values) - mine[0].lead + 1
        stacked = np.concatenate([sliding(f.values[f.lead - L :], L) for f in mine])
        labels = tuple(
            label for f in mine for label in (f.condition[f.lead - 1 :] if f.condition else ("",) * length)
        )
        slots = np.repeat(np.arange(len(mine)), length)
        baseline = np.stack([detector.fresh_baseline(fault.asset) for fault in mine])
        owners = tuple(mine[i].asset for i in slots.tolist())
        evidence = detector.infer(Windows(stacked, np.ones(len(stacked), bool), labels, asset=owners))
        verdicts = detector.judge(evidence, baseline, slots)
        opens = (verdicts.score > detector.threshold) | (verdicts.largest_jump > 1.0)
        found[kind.value] = [bool(one.any()) for one in opens.reshape(len(mine), length)[:, 1:]]
    return found


def begin_as_usual(detector: Detector, faults: Sequence[Fault]) -> Mask:
    """(F,) whether the row before each fault is usual to a model: it would close an episode."""
    L = detector.window
    windows = np.stack([fault.values[fault.lead - L : fault.lead] for fault in faults])
    labels = tuple(fault.condition[fault.lead - 1] if fault.condition else "" for fault in faults)
    baseline = np.stack([detector.fresh_baseline(fault.asset) for fault in faults])
    owners = tuple(fault.asset for fault in faults)
    evidence = detector.infer(Windows(windows, np.ones(len(windows), bool), labels, asset=owners))
    verdicts = detector.judge(evidence, baseline, np.arange(len(windows)))
    return np.asarray(verdicts.score <= detector.closing)


def lost_faults(
    mine: Mapping[str, Sequence[bool]], theirs: Mapping[str, Sequence[bool]], margin: float = RECALL_MARGIN
) -> tuple[int, float]:
    """How many more of the same faults the incumbent finds, and how many the margin and chance allow.

    Both were tested on the same faults, so only those count that one found and the other did not; for two
    equally good models this difference has the standard deviation sqrt(lost + gained)
    (McNemar 1947).
    """
    pairs = [pair for kind in mine for pair in zip(mine[kind], theirs[kind], strict=True)]
    lost = sum(theirs and not mine for mine, theirs in pairs)
    gained = sum(mine and not theirs for mine, theirs in pairs)
    return lost - gained, margin * len(pairs) + math.sqrt(lost + gained)


def least_recall(share: float, of: int, now: int, margin: float) -> float:
    """What a candidate must find of ``now`` faults, where the anchor found a share ``of`` so many others.

    The faults are not the same ones, so that chance is in both shares: two equally good models differ by the standard
    deviation sqrt(p (1 - p) (1 / of + 1 / now)).
    """
    chance = math.sqrt(share * (1.0 - share) * (1.0 / of + 1.0 / now))
    return share - max(ANCHOR_RECALL_MARGIN, margin) - chance


def recall_anchored(candidate: Bundle, decision: Decision) -> Bundle:
    """The candidate whose anchor has the recall that the gate has found, where it had none.

    It is that of the incumbent, the first of the line to be measured; or the candidate's own where it has learned what people
    called normal, which costs recall by what people have decided.
    """
    anchor, figures = candidate.facts.get(ANCHOR), decision.figures
    approved = bool(candidate.facts.get(CALLED_NORMAL))
    share = figures.get("recall_all" if approved else "incumbent_recall_all")
    if anchor is None or share is None or (RECALL in anchor and not approved):
        return candidate
    faults = next(int(rule.figure) for rule in decision.rules if rule.name == "faults")
    anchor = {**anchor, RECALL: {"share": share, "faults": faults}}
    return dataclasses.replace(candidate, facts={**candidate.facts, ANCHOR: anchor})


def unwatched(bundle: Bundle) -> set[int]:
    """The sensors that training set aside, as counters whose levels cannot be learned.

    A model that learned the level of a counter is alarmed by all that comes later, which is no fault found.
    """
    counters = bundle.facts.get("levels_of_counters", ())
    return {c for c, name in enumerate(bundle.sensors) if name in counters}


@dataclass(slots=True)
class _Rules:
    """The rules judged so far, the reason of the first that refused, and the figures."""

    passed_reason: str
    figures: dict[str, float] = field(default_factory=dict)
    judged: list[Rule] = field(default_factory=list)
    refusal: str = ""

    def at_most(self, name: str, figure: float, limit: float, otherwise: str) -> None:
        self._judge(Rule(name, figure, limit, figure <= limit), otherwise)

    def at_least(self, name: str, figure: float, limit: float, otherwise: str) -> None:
        self._judge(Rule(name, figure, limit, figure >= limit, at_least=True), otherwise)

    def _judge(self, rule: Rule, otherwise: str) -> None:
        self.judged.append(rule)
        if not rule.passed:
            self.refusal = self.refusal or otherwise

    def decision(self) -> Decision:
        reason = self.refusal or self.passed_reason
        return Decision(not self.refusal, reason, tuple(self.judged), self.figures)


def gate(
    candidate: Bundle,
    incumbent: Bundle | None,
    held_out: Sequence[Segment],
    policy: AlarmPolicy,
    budget: Budget,
    hop: int = 1,
) -> Decision:
    """Whether the candidate may replace the incumbent (or be the first).

    Args:
        candidate: freshly trained, on data that ``held_out`` is no part of.
        incumbent: the running model; None if there is none.
        held_out: recent normal segments, which neither saw.
        policy: the alarm machine's settings.
        budget: false episodes.
        hop: rows from one judged window to the next.
    """
    rules = _Rules("not worse than the incumbent" if incumbent else "first model")
    figures = rules.figures
    broken = [name for name, array in candidate.models.arrays().items() if not np.isfinite(array).all()]
    broken += [name for name, array in candidate.calibration.arrays().items() if np.isnan(array).any()]
    if not math.isfinite(candidate.calibration.threshold):
        broken.append("threshold")
    rules.at_most("finite", len(broken), 0, f"not finite: {', '.join(broken[:3])}")
    if broken:
        return rules.decision()
    active = int(candidate.facts.get("active_units", 0))
    wanted = wanted_units(candidate.models)
    figures["active_units"] = active
    why = f"{active} active latents, {wanted} needed: the posterior has collapsed"
    rules.at_least("active_units", active, wanted, why)
    if ANCHOR in candidate.facts:
        move = moved(candidate)
        figures["anchor_distance"] = move.distance
        why = f"{move}: a new regime is not learned unasked, train a model to begin with it"
        rules.at_most("anchor_distance", move.distance, ANCHOR_LIMIT, why)
        if (rougher := roughened(candidate)) is not None:
            figures["anchor_roughness"] = rougher.factor
            why = f"{rougher}: noise that grows is not learned unasked, train a model to begin with it"
            rules.at_most("anchor_roughness", rougher.factor, ROUGHNESS_LIMIT, why)
        if (departure := departed(candidate)) is not None:
            figures["anchor_apart"] = departure.distance
            why = f"{departure}: what one asset does alone is not learned unasked, train a model to begin with it"
            rules.at_most("anchor_apart", departure.distance, APART_LIMIT, why)
    detector = candidate.detector()
    alarms, days = _episodes(detector, held_out, policy, candidate.period_ns, hop)
    allowed = budget.allowed(days, len({segment.asset for segment in held_out}))
    most = by_chance(allowed)
    figures.update(episodes=alarms, episodes_allowed=allowed, days=days)
    why = f"{alarms} episodes on {days:.2f} held-out normal days, {allowed:.2f} budgeted"
    rules.at_most("episodes", alarms, most + 1.0, why)

    lead = max(candidate.window, incumbent.window if incumbent else 0)
    left_out = unwatched(candidate) | (unwatched(incumbent) if incumbent else set())
    faults = injected_faults(held_out, lead, candidate.window, left_out=left_out)
    if incumbent is not None and faults:
        usual = begin_as_usual(detector, faults) & begin_as_usual(incumbent.detector(), faults)
        figures["faults_left_out"] = int((~usual).sum())
        faults = [fault for fault, counts in zip(faults, usual.tolist(), strict=True) if counts]
    found = hits(detector, faults)
    mine = recall(found)
    figures.update({f"recall_{kind}": share for kind, share in mine.items() if not math.isnan(share)})
    figures.update({f"smallest_{kind}": size for kind, size in smallest(faults, found).items()})
    if incumbent is not None:
        before = incumbent.detector()
        theirs, _ = _episodes(before, held_out, policy, candidate.period_ns, hop)
        figures["incumbent_episodes"] = theirs
        # What the incumbent alarmed on was left out of these rows, so its count is near zero by
        # construction: a candidate may open what the budget allows, with room for chance.
        why = f"{alarms} episodes on held-out normal rows, the incumbent {theirs}"
        rules.at_most("incumbent_episodes", alarms, max(FALSE_ALARM_FACTOR * theirs, theirs + 1, most), why)
        lost_ones = [
            incident
            for incident in candidate.golden
            if finds(before, incident, hop) and not finds(detector, incident, hop)
        ]
        figures["golden_incidents"] = len(candidate.golden)
        why = "no longer finds confirmed incidents: " + ", ".join(
            f"{one.fingerprint} of {one.asset}" for one in lost_ones[:3]
        )
        rules.at_most("golden_lost", len(lost_ones), 0, why)
        why = (
            f"nothing to compare on: no run of {lead + candidate.window} held-out normal rows in which"
            " a sensor moves"
        )
        rules.at_least("faults", len(faults), 1, why)
        if not faults:
            return rules.decision()
        before_found = hits(before, faults)
        before_recall = recall(before_found)
        figures.update({f"incumbent_recall_{kind}": share for kind, share in before_recall.items()})
        margin = CALLED_NORMAL_MARGIN if candidate.facts.get(CALLED_NORMAL) else RECALL_MARGIN
        lost, most = lost_faults(found, before_found, margin)
        why = (
            f"finds {mine['all']:.1%} of {len(faults)} injected faults, the incumbent {before_recall['all']:.1%}:"
            f" {lost} fewer, at most {most:.0f} allowed"
        )
        rules.at_most("faults_lost", lost, most, why)
        if (then := candidate.facts.get(ANCHOR, {}).get(RECALL)) is not None:
            least = least_recall(then["share"], then["faults"], len(faults), margin)
            why = (
                f"finds {mine['all']:.1%} of {len(faults)} injected faults, at the beginning of its line it was"
                f" {then['share']:.1%} of {then['faults']}"
            )
            rules.at_least("anchor_recall", mine["all"], least, why)
    if candidate.models.vae is not None:
        own = _nats_per_cell(candidate.models, held_out)
        linear = _nats_per_cell(_linear(candidate.models), held_out)
        figures.update(likelihood=own, likelihood_ppca=linear)
        least = linear - LIKELIHOOD_MARGIN
        why = (
            f"held-out likelihood {own:.3f} nats per cell, at least {least:.3f} needed: pPCA has {linear:.3f}"
        )
        rules.at_least("likelihood", own, least, why)
    return rules.decision()


def by_chance(allowed: float) -> float:
    """What a budget allows of episodes with room for chance: two standard deviations of a Poisson count more."""
    return allowed + 2.0 * math.sqrt(allowed)


def _episodes(
    detector: Detector, held_out: Sequence[Segment], policy: AlarmPolicy, period_ns: int, hop: int
) -> tuple[int, float]:
    """Episodes on normal segments, and the asset-days that were scored."""
    count, scored = 0, 0
    for segment in held_out:
        scores, jumps = judged(detector, segment, hop)
        scored += int(np.isfinite(scores).sum())
        count += episodes(firing(scores, detector.threshold, detector.closing, policy, jumps))
    return count, scored * hop * period_ns / DAY_NS


def _linear(models: Models) -> Models:
    """The pPCA that the VAE started from, as a model of its own."""
    noise = math.sqrt(models.pcas[-1].noise)
    return dataclasses.replace(models, vae=None, sigma=np.full(len(models.sigma), noise))


def _nats_per_cell(models: Models, held_out: Sequence[Segment]) -> float:
    """Mean log likelihood bound per observed cell over windows spread over the held-out rows."""
    L = models.window
    total, cells = 0.0, 0
    rows = sum(len(segment.values) for segment in held_out)
    stride = max(rows // 1_000, 1)
    for segment in held_out:
        windows = sliding(segment.values, L)[::stride]
        if not len(windows):
            continue
        labels = (segment.condition[L - 1 :] or ("",) * (len(segment.values) - L + 1))[::stride]
        elbo = models.at_level(segment.asset, segment.values).measure(windows, labels).elbo
        total += float(np.nansum(elbo))
        cells += int(np.isfinite(windows).sum())
    return total / max(cells, 1)
