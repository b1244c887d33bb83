"""``anomalyd`` with a detector that raises an error on every window whose newest row holds ``TRIGGER``.

Run with ``python -m tests.fragile``; for tests of what the loop does when a model fails on some inputs.
"""

from __future__ import annotations

from daemon.detector import Evidence, Windows

TRIGGER = 1313.0


def main() -> None:
    """The entry point of ``python -m daemon``, with the detector replaced."""
    from daemon import cli
    from daemon.model import detector

    infer_before = detector.BundleDetector.infer

    def infer(self: detector.BundleDetector, windows: Windows) -> Evidence:
        if (windows.values[:, -1] == TRIGGER).any():
            raise FloatingPointError("a value that the model never saw")
        return infer_before(self, windows)

    detector.BundleDetector.infer = infer  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
