"""The job ledger: which page has which record, in a few keys with atomic Lua steps."""
