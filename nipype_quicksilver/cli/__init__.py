"""The `quicksilver` command: one module per sub-command, light to import."""
