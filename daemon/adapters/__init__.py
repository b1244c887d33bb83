"""Thin adapters to what lies outside: Kafka, files, memory, the registry, HTTP, plots."""
