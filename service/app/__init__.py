"""The service as a program: HTTP, command line, settings, and the composition of it all."""
