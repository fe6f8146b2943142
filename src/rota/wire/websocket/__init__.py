"""The Channel port over WebSocket: on uvicorn's own port for the coordinator, over http(s) for those who connect."""
