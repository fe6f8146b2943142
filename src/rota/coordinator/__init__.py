"""The leader process: the loop, the store behind it, and the edges in front of it."""
