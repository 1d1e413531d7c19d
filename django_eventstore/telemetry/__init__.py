"""What others watch the package with: each in a file of its own, and imported only where it is installed."""
