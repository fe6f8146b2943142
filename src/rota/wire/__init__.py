"""How coordinator and worker reach each other: messages as bytes, and the Channel port with its adapters."""
