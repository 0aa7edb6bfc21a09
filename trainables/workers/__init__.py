"""Ray's side of a trial: trainables, the engine actor and what they say to each other."""
