"""Everything that can act: the protocol, and what implements it."""
