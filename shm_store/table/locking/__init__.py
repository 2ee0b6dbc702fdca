"""Stripes, the seats that hold them, and recovery from death."""
