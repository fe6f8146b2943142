"""How programs speak to a coordinator."""
