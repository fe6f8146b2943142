"""The tests: a folder for each kind, and `tests.support` for what they share."""
