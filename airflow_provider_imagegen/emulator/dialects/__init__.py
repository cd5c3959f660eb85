"""The vendors' dialects: each reads a vendor's requests and answers in the vendor's shapes."""
