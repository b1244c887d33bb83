"""The streaming core of one input partition: records to rows, rows to windows, verdicts to alerts.

Synchronous, without Kafka, torch, files or clocks: the same records give the same outputs, however they
came in polls. ``pipeline`` conducts; its header lists the way of a record.

* records to readings: ``decoding`` with ``messages``, ``timestamps``, ``fields``, ``rejection``, ``text_cache``
* readings to rows: ``ingest`` with ``event_time`` (is the time plausible), ``fleet_clock`` (time of the whole
  fleet), ``grid`` and ``asset_grid`` (rows and watermarks); ``batches`` (many at once), ``chunker``
* rows to outputs: ``evaluation`` with ``windowing`` and ``chunk_windows`` (windows), ``judge``, ``silence``,
  ``drift``, ``trend``, ``audit``, ``timekeeping``; ``steps`` (the results)
* alerts: ``alerts`` (episodes), ``attribution`` (sensors), ``severity``, ``summaries`` (texts), ``identity`` (ids); ``encoding``
* state: ``parts`` (the owners), ``assets`` (slots), ``ledger`` (what snapshots cover), ``model_changes``,
  ``recovery`` and ``snapshot`` (records of state), ``validity`` (their checks)
"""
