"""What decides: pure functions of commands, time and chance. No I/O, no clock, no threads."""
