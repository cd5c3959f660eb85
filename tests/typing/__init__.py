"""Code that users write, for the type checker; nothing here runs."""
