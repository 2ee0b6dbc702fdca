"""Policies prepared for deciding: rules, their keys, and the requests that they cover."""
