"""The triggers of the image generation provider."""
