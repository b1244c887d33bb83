"""``python -m daemon`` is ``anomalyd``."""

from daemon.cli import main

if __name__ == "__main__":
    main()
