"""S3: clients, destinations and keys, conditional puts, and the temporary files on the way to it."""
