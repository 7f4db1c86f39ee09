"""Which boxes train, and towards what."""
