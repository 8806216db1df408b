"""Networks, one per file, behind one contract."""
