"""A code location as a user would write it."""
