"""What can go wrong, and what must happen: one class for every failure the provider promises to survive."""
