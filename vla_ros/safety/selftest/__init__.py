"""Arming self-test: the fault table, its dry run and its record."""
