"""Everything that leaves the engine after a commit: answers, receipts, policies and fleet events."""
