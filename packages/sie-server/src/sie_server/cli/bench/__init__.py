"""What it takes to say how fast a model is here: texts, arithmetic, a server, a client."""
