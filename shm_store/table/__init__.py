"""The shared table: its byte map, its segment, its stripes and seats, its buckets, and recovery from death."""
