"""What the numbers of an action mean: convention, normalisation, decoding, blending."""
