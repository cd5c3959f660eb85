"""The sensors of the image generation provider."""
