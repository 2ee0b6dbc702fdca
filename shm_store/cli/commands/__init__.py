"""The commands of `shm-store`, one module for each kind, and the parts of `top`."""
