"""Cases -> arrays on disk, and facts about them."""
