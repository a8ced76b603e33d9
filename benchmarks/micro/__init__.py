"""Our own hot paths, each beside a peer; run by hand, never with the tests."""
