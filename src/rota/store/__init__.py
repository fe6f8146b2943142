"""What remembers: one small protocol, one file a backend."""
