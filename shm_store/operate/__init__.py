"""The operator's view of a table, from outside, and the operator's work on it."""
