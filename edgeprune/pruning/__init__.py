"""Token reduction: selection, merging, schedules; `methods` has one file per method."""
