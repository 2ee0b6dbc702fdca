"""Adapters between what the features need and what the platform offers."""
