"""Placement alone: says which of the workers that people keep themselves should have a task."""
