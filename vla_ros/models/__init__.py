"""Networks, one a file, behind one contract."""
