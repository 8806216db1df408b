"""Action conventions: action spaces, normalization, decoding and blending of chunks."""
