"""The plugins of the image generation provider."""
