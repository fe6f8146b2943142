"""The messages of the gRPC contracts, generated from ``proto/`` by ``make protos``; nothing here is written by hand."""
