"""The segment: its byte map, its files, its mapping and its lifetime."""
