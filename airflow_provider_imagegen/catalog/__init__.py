"""What known models accept, and what images cost: data and checks, no I/O."""
