"""What each command does, apart from how its options are written and its result is printed (``daemon.cli``).

One module or package per command: ``run``, ``demo``, ``replay``, ``train``, ``impute``, ``init``, ``check``
(with ``conditions``), ``topics``, ``generate`` (with ``quality``), ``drill``, ``explain`` (with
``root_cause`` and ``counterfactual``). A command over files gets one frozen value, its options, and returns its
result with notes for the user; ``run``, ``check`` and ``topics`` get ``Settings``. A command prints nothing.

What they share: ``wiring`` (Kafka connection, topics and histories from settings), ``inputs`` (options of all
commands over files), ``derive`` (the configuration, given or derived), ``broker`` (Kafka without a stream),
``file_history`` (a file as training segments), ``one_pass`` (the loop over a file), ``carry`` (rows of TRAIN before
TEST), ``results``, ``replay_notes`` and ``labels`` (what a replay leaves).
"""
