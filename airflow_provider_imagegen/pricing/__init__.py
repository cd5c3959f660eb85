"""What images cost: amounts, prices from the connection and from a library, costs and estimates; no I/O."""
