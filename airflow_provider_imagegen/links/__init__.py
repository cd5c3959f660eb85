"""The operator links of the image generation provider: buttons on a task's page."""
