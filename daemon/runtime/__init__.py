"""What runs: one loop over a source, its streams, and the life cycle of their models.

* the loop: ``loop`` (pull, feed, publish, commit), ``committing``, ``options``, ``pauses``
* a stream: ``stream_run`` (plan, partitions, model in use), ``compatibility``, ``fallback``
* its models: ``lifecycle`` (train, promote, follow, give up), ``schedule``, ``trainer``, ``model_store``
* what trainings learn from: ``history``, ``topic_history``, ``exclusion``, ``segmenting``
* the fire drill: ``fire_drill``, ``drill_places``, ``drill_report``, ``cpu_share``
* the process: ``process``, ``admin_port``
"""
