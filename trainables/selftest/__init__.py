"""Three steps that prove an arm, and checks that prove a machine."""
