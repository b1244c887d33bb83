"""Adapters to the outside, each a package or a module; none knows the loop.

* ports: ``ports`` (what the loop needs of a source and a sink), ``memory`` (both in memory, for tests and demos)
* Kafka: ``kafka`` (source, sink, transactions, state topic), ``registry`` (models in a topic and a directory)
* files: ``files`` (tables and JSON Lines in, results out), ``sample`` (a configuration from a sample)
* telemetry: ``telemetry`` (reporter, metrics, page status, logs), ``admin`` (the HTTP port and its page)
* pages: ``pages`` (what they share), ``report``, ``latent_page``, ``root_cause_page``, ``counterfactual_page`` with
  ``counterfactuals`` (its figure); ``names`` and ``wording`` (how sensors and latents are named)
* ``simulator``: the fleet of ``anomalyd demo``
"""
