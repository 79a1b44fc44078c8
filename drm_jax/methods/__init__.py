"""What a network is trained on, and how it answers: one file a method."""
