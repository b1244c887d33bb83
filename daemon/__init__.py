"""anomalyd: streaming anomaly detection for sensor data, Kafka in and Kafka out."""

__version__ = "0.1.0"
