"""Messages on the wire: their encoding, and the channels that carry them."""
