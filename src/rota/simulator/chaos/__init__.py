"""Seeded disasters: clusters to which everything happens, and a checker of what was promised."""
