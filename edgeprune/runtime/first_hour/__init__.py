"""The first hour on a real board: a check list that runs itself, in the order that finds out most, into one results file.

    python -m edgeprune.runtime.first_hour BUNDLE --out first-hour.json

Nothing of this project has run on a Jetson yet (see docs/jetson.md); this asks a board all that its documents can't say.
`runner` gives each step a process and a time limit, writes down what came of it, and goes on. `checklist` is the list.
"""
