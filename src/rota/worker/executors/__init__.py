"""How attempts are run: one small file a kind of work."""
