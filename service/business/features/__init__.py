"""One package per feature, each with the Protocols it needs; neither HTTP nor SQL."""
