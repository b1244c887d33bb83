"""``anomalyd explain``: what a model has learned, as one page and as JSON.

The bundle alone gives the traversals: its drift reference holds the latents' mean and variance over
training. Regimes, the map, KL over time and what a sensor usually reads need readings: those of FILE,
which go through the very pipeline that judges a stream, so that episodes are what ``replay`` finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from daemon.adapters.files import check_place, is_lines, read_table, replacing
from daemon.adapters.latent_page import page_html
from daemon.adapters.names import LONGEST, ClusterName, Names, NamesFile
from daemon.adapters.wording import beta_text, decimals, movement_text, regime_text
from daemon.commands.replay import (
    Discarded,
    check_excluded,
    history_of,
    once,
    plan_for,
    settings_for,
    zone_notes,
)
from daemon.documents import short
from daemon.domain import (
    AlertEvent,
    AlertKind,
    Floats,
    Ints,
    Mask,
    Output,
    Phase,
    iso,
)
from daemon.errors import InputError, UsageError
from daemon.model import latent
from daemon.model.bundle import Bundle
from daemon.model.segments import sliding
from daemon.model.sweep import Sweep, SweepPoint, sweep
from daemon.runtime.compatibility import check_compatible
from daemon.runtime.stream_run import StreamPlan
from daemon.stream.steps import RowBlock

MOST_WINDOWS = 50_000
"""Windows that are encoded; of more, evenly spread ones."""
CHUNK = 2_048
MAP_POINTS = 3_000
TRAIL_POINTS = 120
TRAILS = 60
"""Assets with a trail: those with the most episodes first."""
TIME_BINS = 300
"""Columns of what is shown over time: a screen has about two pixels for each."""
STRIPS = 24
"""Assets whose regimes are shown over time."""
NUMBERS = 250_000
"""Numbers of traversals on a page, about 2 MB; with more, each dimension shows the sensors it moves most."""
EPISODES = 200

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Explained:
    """What ``explain`` found."""

    document: dict[str, Any]
    notes: list[str]


async def explain(
    model: Path,
    out: Path,
    file: Path | None = None,
    *,
    train: Path | None = None,
    config: Path | None = None,
    exclude: Sequence[str] = (),
    stream_name: str | None = None,
    sets: Sequence[str] = (),
    names: Sequence[str] = (),
    at: str | None = None,
    asset: str | None = None,
    sweep_beta: bool = False,
    progress: Progress | None = None,
) -> Explained:
    """Explain a model and write the page.

    Args:
        model: the bundle.
        out: the page.
        file: readings to show the model on; None: traversals only.
        train: readings for the sweep over beta; None: those of ``file``.
        config: a configuration; without one it is derived.
        exclude: columns that are no sensors.
        stream_name: which stream of the configuration.
        sets: what-ifs, ``dimension=sd``.
        names: names to keep, ``dimension=name`` or ``cluster:number=name``.
        at: the end of the window that the what-if starts from, ISO 8601.
        asset: whose window that is.
        sweep_beta: train at several beta and compare.
        progress: told (share done, what is being done).

    Raises:
        DaemonError: unreadable input, wrong configuration, a bundle that does not fit.
    """
    tell = progress or (lambda share, doing: None)
    bundle = Bundle.load(model)
    kept = NamesFile.beside(model)
    given = [_naming(text, bundle) for text in names]
    called = dict(kept.of(bundle.version).dimensions)
    called |= {str(number): name for kind, number, name in given if kind == "dimension"}
    changes = [_change(text, bundle, called) for text in sets]
    row = None if at is None else row_of(at, bundle.period_ns)
    if (at or asset) and file is None:
        raise UsageError("--at and --asset name a window of FILE: give one")
    if sweep_beta and file is None and train is None:
        raise UsageError("--sweep-beta trains models: give FILE or --train FILE")
    if file is None and any(kind == "cluster" for kind, _, _ in given):
        raise UsageError("--name cluster:... names a regime of FILE: give one")
    if sweep_beta and bundle.models.vae is None:
        raise UsageError(f"--sweep-beta: model {bundle.version} is of kind ppca, which has no beta")
    check_excluded(exclude, [path for path in (file, train) if path is not None])
    check_place(out)
    notes: list[str] = []
    survey: Survey | None = None
    plan: StreamPlan | None = None
    sample = file or train
    if sample is not None:
        settings, notes = settings_for(config, (), sample, exclude, bundle)
        plan = replace(plan_for(settings, stream_name, sample.name), retrain_every=None)
        check_compatible(bundle, plan.spec)
    if file is not None and plan is not None:
        survey, more = await survey_of(file, plan, bundle, exclude, tell)
        notes += more
    else:
        notes.append(
            "without FILE there are no readings to show: traversals start from the mean of training, and"
            " regimes, the map and what was unusual when are left out"
        )
    swept = None
    if sweep_beta and plan is not None and sample is not None:
        history = await history_of(train or sample, plan, exclude)
        if not any(segment.observed.any() for segment in history):
            raise InputError(f"{train or sample}: holds no reading of the model's sensors")
        base = 0.7 if survey is not None else 0.0
        swept = sweep(
            history,
            plan.spec,
            bundle.settings,
            progress=lambda s, doing: tell(base + (0.95 - base) * s, doing),
        )
    tell(0.96, "drawing the page")
    described = Described(bundle, survey, notes)
    own = described.renamed(kept.of(bundle.version), given)
    if given:
        kept = kept.with_names(bundle.version, own)
    if (lost := kept.others(bundle.version)) and not (own.dimensions or own.clusters):
        notes.append(
            f"names given to other versions of the model are not shown ({lost} in {kept.path.name}): each"
            " training numbers its dimensions anew"
        )
    document = described.document(
        own, source=None if file is None else file.name, what_if=changes, row=row, asset=asset, swept=swept
    )
    with replacing(out) as temporary:
        temporary.write_text(page_html(document), encoding="utf-8")
    tell(1.0, "done")
    return Explained(document, notes)


# ------------------------------------------------------------------ what was asked for
def _change(text: str, bundle: Bundle, called: Mapping[str, str]) -> tuple[int, float]:
    """``3=+2`` or ``valve opening=+2``: a dimension and by how many sd it moves.

    Raises:
        UsageError: no such dimension, or no such number.
    """
    what, found, amount = text.rpartition("=")
    try:
        sd = float(amount)
    except ValueError:
        sd = math.nan
    if not found or not math.isfinite(sd) or abs(sd) > 10:
        raise UsageError(f"--set {text}: a what-if is DIMENSION=SD, as 3=+2, with at most 10 sd")
    return _dimension(what, bundle, called, f"--set {text}"), sd


def _dimension(what: str, bundle: Bundle, called: Mapping[str, str], option: str) -> int:
    latents = bundle.models.latents
    for number, name in called.items():
        if name and name == what.strip():
            return int(number)
    if what.strip().isascii() and what.strip().isdigit() and int(what) < latents:
        return int(what)
    has = f"the dimensions 0 to {latents - 1}" if latents else "no dimensions: nothing ever moved in training"
    names = [f"{number} is {name!r}" for number, name in sorted(called.items()) if name]
    if names:
        has += f" ({', '.join(names)})"
    raise UsageError(f"{option}: model {bundle.version} has {has}")


def _naming(text: str, bundle: Bundle) -> tuple[str, int, str]:
    """``3=valve opening`` or ``cluster:1=night``: kind, number, name; an empty name takes one away.

    Raises:
        UsageError: it is neither.
    """
    what, found, name = text.partition("=")
    name = " ".join(name.split())
    if not found or len(name) > LONGEST:
        raise UsageError(
            f"--name {text}: write DIMENSION=NAME or cluster:NUMBER=NAME, up to {LONGEST} characters"
        )
    kind, cluster, number = what.partition(":")
    if not cluster:
        return "dimension", _dimension(what, bundle, {}, f"--name {text}"), name
    if kind != "cluster" or not number.isascii() or not number.isdigit():
        raise UsageError(f"--name {text}: write DIMENSION=NAME or cluster:NUMBER=NAME")
    return "cluster", int(number), name


# ------------------------------------------------------------------ readings
class Episodes(Discarded):
    """A sink that keeps the anomaly episodes that open and close."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[AlertEvent]] = {}

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        for output in outputs:
            if isinstance(output, AlertEvent) and output.kind is AlertKind.ANOMALY:
                self.found.setdefault(output.fingerprint, []).append(output)


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """N whole windows of a file, by asset and time, encoded."""

    assets: tuple[str, ...]
    asset: Ints  # (N,) index into ``assets``
    row: Ints  # (N,) the newest row of each window
    label: tuple[str, ...]  # N conditions
    firing: Mask  # (N,) an episode is firing at the newest row
    seen: latent.Encoded
    low: Floats  # (C,) 1 % quantile of each sensor's readings, raw units
    high: Floats  # (C,) 99 %
    rows: Mapping[str, tuple[Ints, Floats, Sequence[str]]]  # asset -> rows, values, conditions
    episodes: Sequence[dict[str, Any]]
    of: int  # windows that there are

    def __len__(self) -> int:
        return len(self.row)


async def survey_of(
    file: Path, plan: StreamPlan, bundle: Bundle, exclude: Sequence[str], tell: Progress
) -> tuple[Survey, list[str]]:
    """Run the file through the pipeline and encode its windows.

    Raises:
        InputError: it holds no whole window.
    """
    spec = plan.spec
    table = None if is_lines(file) else read_table(file, exclude, spec.condition, spec.timezone)
    notes = [] if table is None else [*table.notes, *zone_notes(table.zoneless, spec)]
    sink = Episodes()
    done = await once(file, table, plan, bundle, [], sink, lambda share, doing: tell(0.6 * share, doing))
    rows, firing = _by_asset(done.blocks)
    L = bundle.window
    starts: list[tuple[str, Ints]] = []
    for name, (at, values, _) in rows.items():
        whole = np.flatnonzero(at[L - 1 :] - at[: len(at) - L + 1] == L - 1)
        something = np.isfinite(values).any(1)
        counted = np.concatenate([[0], np.cumsum(something)])
        starts.append((name, whole[counted[whole + L] - counted[whole] > 0]))
    total = sum(len(start) for _, start in starts)
    if not any(np.isfinite(values).any() for _, values, _ in rows.values()):
        raise InputError(f"{file}: holds no reading of the model's sensors")
    if not total:
        raise InputError(f"{file}: holds no run of {L} rows, which is the model's window")
    stride = -(-total // MOST_WINDOWS)
    parts: list[latent.Encoded] = []
    asset_of: list[Ints] = []
    row_of: list[Ints] = []
    fires: list[Mask] = []
    labels: list[str] = []
    done_windows = 0
    for i, (name, start) in enumerate(starts):
        at, values, condition = rows[name]
        picked = start[::stride]
        windows = sliding(values, L)
        for chunk in np.split(picked, range(CHUNK, len(picked), CHUNK)) if len(picked) else []:
            of = [condition[k + L - 1] for k in chunk.tolist()]
            parts.append(latent.encode(bundle.models, windows[chunk], of))
            labels += of
            done_windows += len(chunk) * stride
            tell(0.6 + 0.1 * min(done_windows / total, 1.0), "encoding")
        asset_of.append(np.full(len(picked), i))
        row_of.append(at[picked + L - 1])
        fires.append(firing[name][picked + L - 1])
    every = np.concatenate([values for _, values, _ in rows.values()])
    low, high = np.full(every.shape[1], np.nan), np.full(every.shape[1], np.nan)
    for c in range(every.shape[1]):
        column = every[np.isfinite(every[:, c]), c]
        if len(column):
            low[c], high[c] = np.quantile(column, [0.01, 0.99])
    if stride > 1:
        notes.append(f"every {stride}th of {total:,} windows is shown")
    survey = Survey(
        assets=tuple(rows),
        asset=np.concatenate(asset_of),
        row=np.concatenate(row_of),
        label=tuple(labels),
        firing=np.concatenate(fires),
        seen=latent.Encoded.joined(parts),
        low=low,
        high=high,
        rows=rows,
        episodes=[
            {
                "id": events[0].fingerprint,
                "asset": events[0].asset,
                "onset": iso(events[0].onset_ns),
                "opened": iso(events[0].opened_ns),
                "closed": iso(events[-1].row_ns) if events[-1].phase is Phase.CLOSED else None,
            }
            for events in sink.found.values()
        ],
        of=total,
    )
    return survey, notes


def _by_asset(
    blocks: Sequence[RowBlock],
) -> tuple[dict[str, tuple[Ints, Floats, Sequence[str]]], dict[str, Mask]]:
    """The released rows of each asset, in order of time, and which of them fire."""
    places: dict[str, list[tuple[int, int]]] = {}
    for b, block in enumerate(blocks):
        for i, name in enumerate(block.assets):
            places.setdefault(name, []).append((b, i))
    rows: dict[str, tuple[Ints, Floats, Sequence[str]]] = {}
    firing: dict[str, Mask] = {}
    for name in sorted(places):
        at = np.array([blocks[b].rows[i] for b, i in places[name]], np.int64)
        order = np.argsort(at, kind="stable")
        mine = [places[name][k] for k in order.tolist()]
        rows[name] = (
            at[order],
            np.array([blocks[b].values[i] for b, i in mine]),
            [blocks[b].condition[i] if blocks[b].condition else "" for b, i in mine],
        )
        firing[name] = np.array([bool(blocks[b].firing[i]) for b, i in mine])
    return rows, firing


# ------------------------------------------------------------------ the document
class Described:
    """A bundle, and what was read, as the document that the page and ``--json`` show."""

    def __init__(self, bundle: Bundle, survey: Survey | None, notes: list[str]) -> None:
        self.bundle, self.survey, self.notes = bundle, survey, notes
        self.decimals = [decimals(float(sd)) for sd in bundle.models.scaler.scale]
        models, reference = bundle.models, bundle.drift
        self.condition = ""
        mean = None if survey is None else survey.seen.mean
        sample = latent.sample_of(reference, mean)
        if survey is not None and bundle.conditions:
            known = [label for label in survey.label if label in bundle.conditions]
            self.condition = max(sorted(set(known)), key=known.count) if known else ""
        self.effects = latent.shares(models, sample, latent.active(reference), reference, self.condition)
        self.plane: latent.Plane | None = None
        self.regimes: latent.Regimes | None = None
        self.start = reference.latent_mean
        self.usual = 0  # the regime with the most windows outside of episodes
        if survey is not None:
            self.plane = latent.plane(survey.seen.mean, self.effects, reference)
            self.regimes = latent.regimes(survey.seen.mean, ~survey.firing, self.plane, bundle.window)
            calm = np.bincount(self.regimes.of[~survey.firing], minlength=self.regimes.count)
            self.usual = int(calm.argmax())
            typical = int(self.regimes.typical[self.usual])
            self.start = survey.seen.mean[typical]
            self.condition = survey.label[typical]
        self.directions = latent.directions(models, reference, self.effects, self.start, self.condition)

    # -------------------------------------------------------------- names
    def renamed(self, names: Names, given: Sequence[tuple[str, int, str]]) -> Names:
        """The names with those given now.

        Raises:
            UsageError: no such cluster.
        """
        dimensions, clusters = dict(names.dimensions), list(names.clusters)
        for kind, number, name in given:
            if kind == "dimension":
                dimensions[str(number)] = name
                continue
            found = self.regimes
            if found is None or not 1 <= number <= found.count:
                count = 0 if found is None else found.count
                raise UsageError(f"--name cluster:{number}: there are {count} regimes, from 1 on")
            taken = self._cluster_names(Names({}, clusters)).get(number - 1)
            clusters = [c for c in clusters if c is not taken]
            clusters.append(ClusterName(name, tuple(found.centres[number - 1].tolist())))
        return Names(
            {k: v for k, v in sorted(dimensions.items(), key=lambda kv: int(kv[0])) if v},
            [c for c in clusters if c.name],
        )

    def _cluster_names(self, names: Names) -> dict[int, ClusterName]:
        """Which cluster has which name: the nearest one, if the name was given within its radius."""
        result: dict[int, ClusterName] = {}
        if self.regimes is None or self.plane is None:
            return result
        centres = self.plane.weighted(self.regimes.centres)
        for named in names.clusters:
            if len(named.centre) != self.bundle.models.latents:
                continue
            away = np.sqrt(np.square(centres - self.plane.weighted(np.array(named.centre))).sum(1))
            k = int(away.argmin())
            if away[k] <= max(self.regimes.radius[k], 1e-9):
                result[k] = named  # of several the newest
        return result

    # -------------------------------------------------------------- all of it
    def document(
        self,
        names: Names,
        *,
        source: str | None,
        what_if: Sequence[tuple[int, float]],
        row: int | None,
        asset: str | None,
        swept: Sweep | None,
    ) -> dict[str, Any]:
        """See the README for the keys."""
        bundle, survey = self.bundle, self.survey
        period = bundle.period_ns / 1e9
        L = bundle.window
        cluster_names = self._cluster_names(names)
        unmatched = len(names.clusters) - len(cluster_names)
        if survey is not None and unmatched > 0:
            self.notes.append(f"named regimes that do not occur in these readings: {unmatched}")
        explained = None if survey is None else survey.seen.explained
        return {
            "version": bundle.version,
            "kind": bundle.models.kind,
            "source": source,
            "period_seconds": period,
            "window": L,
            "seconds": [short((i - L + 1) * period, 6) for i in range(L)],
            "sensors": [
                {
                    "sensor": name,
                    "mean": self._real(float(bundle.models.scaler.mean[c]), c),
                    "sd": short(float(bundle.models.scaler.scale[c])),
                    "decimals": self.decimals[c],
                    "low": None if survey is None else self._real(float(survey.low[c]), c),
                    "high": None if survey is None else self._real(float(survey.high[c]), c),
                    "explained": None if explained is None else short(float(explained[c]), 3),
                }
                for c, name in enumerate(bundle.sensors)
            ],
            "reference": self._reference(),
            "latents": bundle.models.latents,
            "dimensions": self._dimensions(names),
            "clusters": self._clusters(cluster_names),
            "map": self._map(),
            "kl_over_time": self._kl_over_time(),
            "episodes": [] if survey is None else list(survey.episodes[:EPISODES]),
            "episode_count": 0 if survey is None else len(survey.episodes),
            "windows": 0 if survey is None else survey.of,
            "set": self._what_if(names, what_if, row, asset),
            "sweep": None if swept is None else _swept(swept, bundle.settings.beta),
            "notes": list(dict.fromkeys(self.notes)),
        }

    def _reference(self) -> dict[str, Any]:
        if self.survey is None or self.regimes is None:
            return {"what": "the mean of training", "asset": None, "time": None, "condition": self.condition}
        typical = int(self.regimes.typical[self.usual])
        what = f"a typical window of regime {self.usual + 1}"
        return {"what": what, **self._window(typical), "condition": self.condition}

    def _real(self, value: float, sensor: int) -> float | None:
        """A value of a sensor: to a thousandth of its sd or so."""
        return round(value, self.decimals[sensor] + 1) + 0.0 if math.isfinite(value) else None

    def _course(self, values: Floats, sensor: int) -> list[Any]:
        """Nested lists of a sensor's values, fine enough to be drawn."""
        if values.ndim > 1:
            return [self._course(part, sensor) for part in values]
        places = self.decimals[sensor] + 2
        return [round(v, places) + 0.0 if math.isfinite(v) else None for v in values.tolist()]

    def _window(self, index: int) -> dict[str, Any]:
        assert self.survey is not None
        return {
            "asset": self.survey.assets[int(self.survey.asset[index])],
            "time": iso(int(self.survey.row[index]) * self.bundle.period_ns),
        }

    # -------------------------------------------------------------- dimensions
    def _dimensions(self, names: Names) -> list[dict[str, Any]]:
        bundle, survey = self.bundle, self.survey
        period, L = bundle.period_ns / 1e9, bundle.window
        kl = None if survey is None else survey.seen.kl.mean(0)
        many = max(len(self.directions), 1)
        room = max(
            min(NUMBERS // (many * len(latent.STEPS) * L), len(bundle.sensors)), min(4, len(bundle.sensors))
        )
        result = []
        for direction in self.directions:
            shown = direction.movements[:room]
            result.append(
                {
                    "dimension": direction.dimension,
                    "name": names.dimensions.get(str(direction.dimension)),
                    "active": True,
                    "kl": None if kl is None else short(float(kl[direction.dimension])),
                    "share": short(direction.share),
                    "sd": short(direction.sd),
                    "text": movement_text(direction.movements, bundle.sensors, self.decimals, period),
                    "sensors": [
                        {
                            "sensor": bundle.sensors[m.sensor],
                            "change": self._real(m.change, m.sensor),
                            "first": self._real(m.first, m.sensor),
                            "last": self._real(m.last, m.sensor),
                            "unit_sd": short(m.unit_sd),
                            "pattern": m.pattern,
                            "lag": m.lag,
                            "lag_seconds": None if m.lag is None else short(m.lag * period, 6),
                        }
                        for m in direction.movements
                    ],
                    "traversal": {
                        "steps": list(latent.STEPS),
                        "sensors": {
                            bundle.sensors[m.sensor]: self._course(
                                direction.traversal[:, :, m.sensor], m.sensor
                            )
                            for m in shown
                        },
                    },
                }
            )
        lively = {d.dimension for d in self.directions}
        for d in range(bundle.models.latents):
            if d not in lively:
                result.append(
                    {
                        "dimension": d,
                        "name": names.dimensions.get(str(d)),
                        "active": False,
                        "kl": None if kl is None else short(float(kl[d])),
                        "share": 0.0,
                        "sd": short(float(np.sqrt(bundle.drift.latent_variance[d]))),
                        "text": "The model does not use it.",
                        "sensors": [],
                        "traversal": None,
                    }
                )
        return result

    # -------------------------------------------------------------- regimes
    def _clusters(self, names: Mapping[int, ClusterName]) -> list[dict[str, Any]]:
        survey, found = self.survey, self.regimes
        if survey is None or found is None:
            return []
        times = survey.row * self.bundle.period_ns
        hours = (times // 3_600_000_000_000) % 24
        result = []
        for k in range(found.count):
            inside = found.of == k
            notable = latent.typical_values(survey.seen, found.of, k, self.bundle.models.scaler.scale)
            usual = latent.usual_hours(hours, inside) if found.count > 1 else None
            share = float(inside.mean())
            result.append(
                {
                    "cluster": k + 1,
                    "name": names[k].name if k in names else None,
                    "share": short(share),
                    "windows": int(inside.sum()),
                    "episode_share": short(float(survey.firing[inside].mean())),
                    "hours": None if usual is None else list(usual),
                    "sensors": [
                        {
                            "sensor": self.bundle.sensors[t.sensor],
                            "typical": self._real(t.value, t.sensor),
                            "overall": self._real(t.overall, t.sensor),
                            "unit_sd": short(t.unit_sd),
                            "word": t.word,
                        }
                        for t in notable
                    ],
                    "typical": self._window(int(found.typical[k])),
                    "text": regime_text(notable, self.bundle.sensors, self.decimals, share, usual),
                }
            )
        return result

    def _map(self) -> dict[str, Any] | None:
        survey, flat, found = self.survey, self.plane, self.regimes
        if survey is None or flat is None or found is None:
            return None
        place = flat.place(survey.seen.mean)
        shown = np.arange(0, len(place), -(-len(place) // MAP_POINTS))
        fires = np.flatnonzero(survey.firing)
        # Episodes are short and what the map is looked at for: they are thinned less than the rest.
        if len(fires):
            shown = np.unique(np.concatenate([shown, fires[:: -(-len(fires) // 1_000)]]))
        trails = []
        for i in self._busiest()[:TRAILS]:
            mine = np.flatnonzero(survey.asset == i)[-TRAIL_POINTS:]
            trails.append(
                {
                    "asset": survey.assets[i],
                    "episodes": sum(e["asset"] == survey.assets[i] for e in survey.episodes),
                    "time": _milliseconds(survey.row[mine], self.bundle.period_ns),
                    "x": _rounded(place[mine, 0]),
                    "y": _rounded(place[mine, 1]),
                }
            )
        return {
            "axes": "dimensions" if flat.dimensions else "pca",
            "dimensions": None if flat.dimensions is None else list(flat.dimensions),
            "share": short(flat.share, 3),
            "pca_share": short(flat.pca_share, 3),
            "own_share": short(flat.own_share, 3),
            "silhouette": short(found.silhouette, 3),
            "assets": list(survey.assets),
            "points": {
                "asset": survey.asset[shown].tolist(),
                "time": _milliseconds(survey.row[shown], self.bundle.period_ns),
                "x": _rounded(place[shown, 0]),
                "y": _rounded(place[shown, 1]),
                "cluster": (found.of[shown] + 1).tolist(),
                "episode": survey.firing[shown].tolist(),
            },
            "trails": trails,
            "regimes_over_time": self._strips(),
        }

    def _busiest(self) -> list[int]:
        """The assets, those with the most windows in an episode first."""
        assert self.survey is not None
        busy = np.bincount(self.survey.asset[self.survey.firing], minlength=len(self.survey.assets))
        order: list[int] = np.argsort(-busy, kind="stable").tolist()
        return order

    def _bins(self) -> tuple[Ints, int, int]:
        """(N,) the column of each window on a common axis of time, its first row, and rows per column."""
        assert self.survey is not None
        row = self.survey.row
        first, last = int(row.min()), int(row.max())
        width = max(-(-(last - first + 1) // TIME_BINS), 1)
        return (row - first) // width, first, width

    def _strips(self) -> dict[str, Any]:
        """Per asset which regime each column of time was mostly in; None where there was no window."""
        assert self.survey is not None
        assert self.regimes is not None
        survey, found = self.survey, self.regimes
        column, first, width = self._bins()
        count = int(column.max()) + 1
        strips = []
        for i in sorted(self._busiest()[:STRIPS]):
            mine = survey.asset == i
            seen = np.zeros((count, found.count), np.int64)
            np.add.at(seen, (column[mine], found.of[mine]), 1)
            fires = np.zeros(count, bool)
            fires[column[mine & survey.firing]] = True
            strips.append(
                {
                    "asset": survey.assets[i],
                    "cluster": [int(s.argmax()) + 1 if s.any() else None for s in seen],
                    "episode": fires.tolist(),
                }
            )
        starts = first + width * np.arange(count)
        return {"time": _milliseconds(starts, self.bundle.period_ns), "strips": strips}

    def _kl_over_time(self) -> dict[str, Any] | None:
        survey = self.survey
        if survey is None:
            return None
        column, first, width = self._bins()
        count = int(column.max()) + 1
        order = [d.dimension for d in self.directions]
        peak = np.full((len(order), count), -np.inf)
        for i, d in enumerate(order):
            np.maximum.at(peak[i], column, survey.seen.kl[:, d])
        peak = np.where(np.isfinite(peak), peak, np.nan)
        starts = first + width * np.arange(count)
        fires = np.zeros(count, bool)
        fires[column[survey.firing]] = True
        return {
            "time": _milliseconds(starts, self.bundle.period_ns),
            "bin_seconds": short(width * self.bundle.period_ns / 1e9, 6),
            "what": "the greatest of each bin, nats",
            "dimensions": order,
            "values": _rounded(peak, 3),
            "usual": _rounded(np.median(survey.seen.kl[:, order], axis=0), 3),
            "episode": fires.tolist(),
        }

    # -------------------------------------------------------------- what if
    def _what_if(
        self, names: Names, changes: Sequence[tuple[int, float]], row: int | None, asset: str | None
    ) -> dict[str, Any] | None:
        if not changes:
            if row is not None or asset is not None:
                self.notes.append("--at and --asset name the window of a what-if: add --set DIMENSION=SD")
            return None
        bundle = self.bundle
        z, condition, observed = self.start, self.condition, None
        base = self._reference()
        if row is not None or asset is not None:
            z, condition, observed, base = self._chosen(row, asset)
        elif self.survey is not None:
            observed = self._observed(base["asset"], base["time"])
        both = np.stack([z, latent.moved(z, changes, bundle.drift)])
        before, after = latent.decode(bundle.models, both, condition)
        size = np.abs(after - before).mean(0) / bundle.models.scaler.scale
        order = [
            c
            for c in np.argsort(-np.nan_to_num(size), kind="stable").tolist()
            if bundle.models.scaler.seen[c]
        ]
        return {
            "base": base,
            "moved": [{"dimension": d, "name": names.dimensions.get(str(d)), "sd": sd} for d, sd in changes],
            "sensors": [
                {
                    "sensor": bundle.sensors[c],
                    "before": self._course(before[:, c], c),
                    "after": self._course(after[:, c], c),
                    "observed": None if observed is None else self._course(observed[:, c], c),
                    "change": self._real(float((after - before)[:, c].mean()), c),
                    "unit_sd": short(float(size[c])),
                }
                for c in order
            ],
        }

    def _observed(self, asset: str, time: str) -> Floats:
        assert self.survey is not None
        at, values, _ = self.survey.rows[asset]
        end = int(np.searchsorted(at, row_of(time, self.bundle.period_ns)))
        return values[end - self.bundle.window + 1 : end + 1]

    def _chosen(self, row: int | None, asset: str | None) -> tuple[Floats, str, Floats, dict[str, Any]]:
        """The window of an asset that ends at a time: latents, condition, readings, and what it is."""
        survey, bundle = self.survey, self.bundle
        assert survey is not None
        if asset is None:
            if len(survey.assets) > 1:
                raise UsageError(f"--at: there are {len(survey.assets)} assets: name one with --asset")
            asset = survey.assets[0]
        if asset not in survey.assets:
            raise UsageError(f"--asset {asset}: the readings are of {', '.join(survey.assets[:10])}")
        rows, values, conditions = survey.rows[asset]
        L = bundle.window
        row = int(rows[-1]) if row is None else row
        end = int(np.searchsorted(rows, row))
        whole = end < len(rows) and rows[end] == row and end >= L - 1 and rows[end - L + 1] == row - L + 1
        if not whole:
            first, last, when = (iso(int(r) * bundle.period_ns) for r in (rows[0], rows[-1], row))
            raise UsageError(
                f"--at: no whole window of {asset} ends at {when}; it has readings from {first} to {last}"
            )
        window = values[end - L + 1 : end + 1]
        seen = latent.encode(bundle.models, window[None], [conditions[end]])
        base = {
            "what": "the window asked for",
            "asset": asset,
            "time": iso(row * bundle.period_ns),
            "condition": conditions[end],
        }
        return seen.mean[0], conditions[end], window, base


def _swept(found: Sweep, beta: float) -> dict[str, Any]:
    def told(p: SweepPoint) -> dict[str, Any]:
        return {
            "beta": p.beta,
            "seed": p.seed,
            "active_units": p.active_units,
            "telling_units": p.telling_units,
            "reconstruction": short(p.reconstruction),
            "kl": short(p.kl),
            "elbo": short(p.elbo),
            "purity": short(p.purity, 3),
        }

    points, again = [told(p) for p in found.points], [told(p) for p in found.again]
    return {
        "beta": beta,
        "factors": found.factors,
        "latents": found.latents,
        "points": points,
        "other_seeds": again,
        "text": beta_text(points, again),
    }


def row_of(time: str, period_ns: int) -> int:
    """The grid row of an ISO time; no zone means UTC.

    Raises:
        UsageError: it is none.
    """
    try:
        when = datetime.fromisoformat(time)
    except ValueError as error:
        raise UsageError(f"--at {time}: no ISO 8601 time, as 2026-03-01T06:00:00Z") from error
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    since = when.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return microseconds * 1_000 // period_ns


def _rounded(values: Floats, digits: int = 4) -> list[Any]:
    """Nested lists of short numbers, None where there is none."""
    if values.ndim > 1:
        return [_rounded(part, digits) for part in values]
    return [short(float(v), digits) for v in values]


def _milliseconds(rows: Ints, period_ns: int) -> list[int]:
    return [int(row) * period_ns // 1_000_000 for row in rows.tolist()]
