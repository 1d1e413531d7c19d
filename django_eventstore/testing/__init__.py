"""For the tests of projects."""
