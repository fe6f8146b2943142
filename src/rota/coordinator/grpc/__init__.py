"""The door for gRPC: public services for clients in any language, and the channel of workers that prefer it."""
