"""The hooks of the image generation provider."""
