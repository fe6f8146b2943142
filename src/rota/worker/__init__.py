"""The agent process: its channel, what its machine offers, and the slots that run attempts."""
