"""The configuration groups."""
