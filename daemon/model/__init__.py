"""The model core: trains on normal rows, scores windows, fills gaps, explains and generates.

It does not import ``daemon.stream``; of a stream it knows the ``StreamSpec``.

A window is (L, C) readings: L steps of C sensors. The way of a training and of a score, module by module:

* parts of a model: ``scaler`` (units), ``levels`` (of each asset), ``pca`` (linear model), ``paths`` and ``vae`` (nonlinear model, trained
  with ``optimiser``), ``conditions`` (usual window of each condition), ``inference`` (the same model, fast);
* measurement and score: ``reconstruction`` (errors and latents of windows), ``tails`` (value to -log p),
  ``baseline`` (slow levels), ``calibration`` (one score, and its threshold), ``drift`` (reference of drift),
  ``rules`` (what people excused), ``trend`` (slow wear);
* training: ``cleaning`` and ``screening`` (what of a history is not learned), ``segments`` (how histories are cut),
  ``crossfit``, ``training``, ``soundness`` (checks of the VAE), ``promotion`` (the gate for a retrained model) and
  ``decision`` (its decision, rule by rule), ``sweep`` (the effect of beta);
* the result: ``bundle`` (weights and facts under one version), ``admission`` (checks of a bundle's bytes),
  ``detector`` (implements ``daemon.detector.Detector``);
* missing readings: ``imputation`` (a value with an interval), ``draws`` (several joint values);
* explanation: ``track`` and ``repair`` and ``root_cause`` (which sensors, and why), ``latent`` (what each latent
  does), ``counterfactual`` (another condition);
* tests of a model: ``faults`` (injected faults), ``drill`` (which of them are found), ``evaluation`` (against
  labels);
* synthetic series: ``synthesis`` (generator), ``fidelity`` (how similar they are to real ones).
"""
