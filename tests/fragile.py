"""``anomalyd`` with a model that raises on every window whose newest row holds ``TRIGGER``."""

from __future__ import annotations

from daemon.detector import Evidence, Windows

TRIGGER = 1313.0


def main() -> None:
    """As ``python -m daemon``."""
    from daemon import cli
    from daemon.model import detector

    sound = detector.BundleDetector.infer

    def infer(self: detector.BundleDetector, windows: Windows) -> Evidence:
        if (windows.values[:, -1] == TRIGGER).any():
            raise FloatingPointError("a value that the model never saw")
        return sound(self, windows)

    detector.BundleDetector.infer = infer  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
