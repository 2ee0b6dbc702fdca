"""Every take of a table: what decides on it, what it stores, and what a process remembers of it."""
