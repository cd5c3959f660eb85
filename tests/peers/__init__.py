"""Software that is not ours meets the provider and its emulator; each test installs what it needs itself."""
