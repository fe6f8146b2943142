"""Which worker gets a task: one small file a policy."""
