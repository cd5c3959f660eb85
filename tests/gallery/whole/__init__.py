"""The gallery's HTTP responses; ``test_over_http`` collects these tests."""
