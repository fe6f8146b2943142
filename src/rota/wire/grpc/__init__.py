"""The Channel port over gRPC: a stream of frames, for networks where gRPC is the rule."""

import os

# gRPC's core has a log of its own on standard error, and tells there of each failed handshake. What goes wrong with a
# channel is told by us, once; whoever looks for more sets the variable.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
