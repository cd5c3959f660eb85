"""The operators of the image generation provider."""
