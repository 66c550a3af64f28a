"""Judge a record; the ladder of evidence, the grid, the table, the plan, CPU against CUDA."""
