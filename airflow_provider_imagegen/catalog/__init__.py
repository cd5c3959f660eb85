"""Parameters of known models, and prices of images: data and checks, no I/O."""
