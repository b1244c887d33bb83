"""The synchronous core of the stream: bytes to rows, rows to windows, verdicts to alerts."""
