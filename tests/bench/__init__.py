"""What the daemon costs and how well it detects, as tables: ``python -m tests.bench``. Not collected by pytest."""
