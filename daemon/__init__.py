"""anomalyd: streaming anomaly detection for sensor data, Kafka in and Kafka out.

**Floors.** Imports go down only (import-linter checks it):

    cli         arguments in, one clear line out                    one module per command
    commands    what each command does                              one module or package per command
    runtime     what runs: the loop, its streams, the life of their models, the process
    adapters    the outside: kafka, files, registry, telemetry, admin, pages, simulator
    stream      the streaming core, synchronous | model   the model core, torch; neither knows the other
    config, alarm, grouping, calendar, habit, detector, domain, budget, alert, control, trigger, errors     values and rules that all share

**A record from topic to alert**, file by file:

    adapters/kafka/source.py      polls records of the assigned partitions, after restoring their state
    runtime/loop.py               feeds each poll to its partition's pipeline, publishes every step's outputs
    stream/pipeline.py            conducts one partition; its header lists the way through the files below
    stream/ingest.py              has readings made of records (decoding.py), checks event times (event_time.py)
      stream/decode/              layer 1: bytes to a tree
      stream/extract/             layer 2: a tree to readings, by a mapping (mapping.py, config/presets/)
      stream/grid.py              layer 3: readings to rows; then derivation.py and holding.py, which rules of sensors need
    stream/batch_ingest.py        does the same for many usual readings at once (piece_decoding.py, gathering.py;
                                  extract/columns.py for mapped messages)
    stream/accounts.py            counts what became of it, and of each of its cells
    stream/chunker.py             keeps released rows until a chunk is full or the poll ends
    stream/evaluation.py          takes the chunk through windows, judge, silence and drift
    stream/derivation.py          first makes rates of its counters and two numbers of its angles,
    stream/holding.py             and says which missing cells have a sensor's last value
    stream/judge.py               asks the model (detector.py; model/detector.py implements it) and scores
    stream/thresholds.py          says above which score an alert opens
    stream/alerts.py              opens, updates and closes alerts: with the state machine of alarm.py,
      stream/deviation.py         and for sensors that are off by little for long
      stream/incident.py          what belongs together is one alert, but what outgrows it (heights.py);
                                  incidents.py has them grow and end
      stream/dismissal.py         what people said of earlier ones (their courses: course.py) raises the bar for their like
      stream/alert_messages.py    what it says; its sentence is in stream/summaries.py
    stream/shadow.py              lets a candidate judge beside the model, and counts what it would alert
    stream/trend.py               keeps the means of days, and opens those of sensors that move from day to day
    runtime/committing.py         commits the outputs, the snapshots (stream/recovery.py) and the offset together
    adapters/kafka/transactions.py   encodes the outputs (stream/encoding.py), writes all of it in one transaction

``commands/run.py`` (``kafka_ends``) builds source and sink. With ``kafka.delivery: at_least_once`` the last two
differ: ``KafkaSink`` (adapters/kafka/writing.py) publishes outputs at once, and a commit has offset and snapshots.

A model's life is in ``runtime/lifecycle.py`` (train when due, gate, decide, promote, follow, give up): ``schedule.py`` says
when and why, ``shadowing.py`` which candidate first judges beside the model, ``shadow.py`` what is decided on it, ``topic_history.py`` what is learned (``published.py``, ``exclusion.py``, ``reservoir.py``), and a decision goes
through ``model_store.py`` to ``adapters/registry``; people put another one in force with ``commands/models``. Whatever happens is
reported once, to ``adapters/telemetry/reporter.py``, which knows metrics, page and log.

**Where to add**

    an input format     config/presets/NAME.yaml, with a test; a decoder in stream/decode; adapters/files for tables
    a rule for rows     mapping.py (``SensorRule``), assembly.py (what it means to others), and one of stream/reduction.py,
                        derivation.py and holding.py, which adapters/files/placing.py applies to tables, too
    a score             model/calibration.py and model/detector.py; the interface is ``Verdicts`` in detector.py
    an alert kind       ``AlertKind`` in alert.py; opened with ``Episodes.open_unscored`` (stream/alerts.py) where it
                        is detected, or for a sensor by an ``UnscoredChange``, as in stream/silence.py; its text is in
                        stream/summaries.py
    a command           cli/NAME.py (options) and commands/NAME.py (work); list it in cli/program.py
    a metric            adapters/telemetry/families.py, moved by the metrics in metrics.py, which reporter.py calls
    a setting           config/sections.py; what it means to a stream is in runtime/stream_run.py (``StreamPlan``)
    a wish of people    control.py (the message); cli and commands (by command); adapters/admin/desk.py and commands/desk.py (by page)
    a page              adapters/pages has what pages share; page.html, page.css and page.js beside the module
"""

import os

__version__ = "0.1.0"

# One single-threaded process per core. Numeric libraries read these when they are imported, so
# this is the only place that is early enough.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
