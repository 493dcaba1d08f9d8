"""What everything stands on: errors, files, YAML and JSON of others, what this machine is."""
