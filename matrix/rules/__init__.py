"""Decisions of people: expectations, waivers, notes, explained platform differences."""
