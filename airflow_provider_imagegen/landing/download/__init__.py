"""From a URL to bytes in a file: ``download``; where it may connect: ``hosts`` decides, ``network`` obeys."""
