"""``anomalyd`` with a model that raises on every window whose newest row holds ``TRIGGER``."""

from __future__ import annotations

from daemon.domain import Evidence, Windows

TRIGGER = 1313.0


def main() -> None:
    """As ``python -m daemon``."""
    from daemon import cli
    from daemon.model import scoring

    sound = scoring.BundleDetector.infer

    def infer(self: scoring.BundleDetector, windows: Windows) -> Evidence:
        if (windows.values[:, -1] == TRIGGER).any():
            raise FloatingPointError("a value that the model never saw")
        return sound(self, windows)

    scoring.BundleDetector.infer = infer  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
