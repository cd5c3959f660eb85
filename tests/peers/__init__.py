"""Tests of provider and emulator with third-party software; each test installs what it needs."""
