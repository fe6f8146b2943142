"""Measurements: each next to a yardstick in the same run, as a ratio of medians."""
