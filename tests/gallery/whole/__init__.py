"""What the gallery answers; ``test_over_http`` collects these tests."""
