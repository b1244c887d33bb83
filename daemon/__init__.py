"""anomalyd: streaming anomaly detection for sensor data, Kafka in and Kafka out."""

import os

__version__ = "0.1.0"

# One single-threaded process per core. Numeric libraries read these when they are imported, so
# this is the only place that is early enough.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
