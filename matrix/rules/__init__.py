"""What people decided: expectations, waivers, notes, explained differences of the platforms."""
