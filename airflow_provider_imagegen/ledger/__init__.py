"""The ledger in S3: what was claimed, submitted and paid for."""
