"""The TaskFlow decorators of the image generation provider."""
