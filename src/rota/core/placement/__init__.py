"""Placement policies: which worker gets a task. One small file a policy."""
