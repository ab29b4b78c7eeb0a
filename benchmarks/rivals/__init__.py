"""The ways that the courier is compared with. Each module is what one kind of worker runs."""
