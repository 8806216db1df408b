"""How the chunks of a policy are carried out one after the other while the next one is computed."""
