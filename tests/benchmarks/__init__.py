"""The figures of docs/performance.md: ``make bench``, or ``python -m tests.benchmarks``. No test asserts a time."""
