"""What a crash costs: workers that die at every point where they do something outside themselves."""
